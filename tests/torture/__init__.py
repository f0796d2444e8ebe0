"""Seeded chaos: nights of exports under faults, kills and reruns, compared with a model that knows nothing of the job.

schedule.py   what is done, decided by one seed
play.py       does it, with real processes, and checks after every one
model.py      what must be in the warehouse: plain dictionaries out of the studio's world
check.py      compares the two, and names what is lost, doubled or mixed
readers.py    processes that read all the while
hostile.py    responses, dumps and damages, drawn from a seed, and a model of what must come of them
judge.py      lets jobs meet them, and judges
work.py       one schedule or one hostile case, in a directory of its own
__main__.py   many of both on all cores: `python -m torture`
"""
