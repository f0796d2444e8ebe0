"""Seeded chaos: nights of exports under faults, kills and reruns, compared with a model that knows nothing of the job.

schedule.py   what is done, decided by one seed
play.py       does it, with real processes, and checks after every one
model.py      what must be in the warehouse: plain dictionaries out of the studio's world
check.py      compares the two, and names what is lost, doubled or mixed
readers.py    processes that read all the while
__main__.py   many schedules on all cores: `python -m torture`
"""
