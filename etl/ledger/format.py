"""The tables of a ledger, and how older versions of them become the present one."""

FORMAT = 4
"""Version of the tables below. A ledger of a newer version is refused."""
SCHEMA = """
create table run (
    run_id text primary key, snapshot_date text not null, started_at text not null, request text not null,
    account_id text, state text not null, seconds real not null default 0, invocations integer not null default 0,
    worked_until text not null, shard text
);
create table dataset (
    name text primary key, definition text not null, operation text not null, published integer not null
);
create table slice (
    slice_id text primary key, position integer not null, dataset text not null references dataset,
    account_id text not null, region text not null, parents text not null, filters text not null,
    attempt integer not null default 1, state text not null, first_starting_token text, starting_token text,
    error text, resumable integer not null default 0, publication integer, partial integer not null default 0,
    rows integer, rejects integer, duplicates integer, drift text, table_rows text
);
create table page (
    slice_id text not null references slice, attempt integer not null, number integer not null,
    size_bytes integer not null, body_sha256 text not null, records integer not null, first integer not null,
    stop integer not null, next_starting_token text, request_id text not null, retries integer not null,
    received_at text not null, body blob not null, primary key (slice_id, attempt, number)
);
create table publication (
    number integer primary key, dataset text not null, slices text not null, published_at text, sequence integer,
    is_whole integer not null default 0
);
"""
"""The body of a page is its last column: sums over the others then read none of it."""
UPGRADES = {
    # Format 1 published the facts about a run as a dataset "etl" whose one slice id was the number of an invocation.
    1: (
        "alter table publication add column is_of_facts integer not null default 0",
        "update publication set is_of_facts = 1, dataset = '' where dataset = 'etl' and length(slices) < 16",
    ),
    # Format 2 published facts under a number of their own: what was published after the last facts is not whole.
    2: (
        "alter table slice add column table_rows text",
        "alter table publication add column sequence integer",
        "alter table publication add column is_whole integer not null default 0",
        "update publication set sequence = 0 where published_at is not null",
        (
            "update publication set is_whole = 1 where sequence = 0"
            " and number < (select max(number) from publication where is_of_facts and sequence = 0)"
        ),
        "delete from publication where is_of_facts",
        "alter table publication drop column is_of_facts",
    ),
    3: ("alter table run add column shard text",),
}
