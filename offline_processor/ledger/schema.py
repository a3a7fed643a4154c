"""The ledger's tables, as migrations.

Why here: what the database itself forbids (changing an entry, a second live attempt) stands in one place.
Must not: change a migration that was ever released; add another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils import Migrations

if TYPE_CHECKING:
    from sqlite_utils import Database

migrations = Migrations("ledger")

_TABLES = (
    # The record of what happened. Append-only, each row chained to the one before.
    """CREATE TABLE entry (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
        facts TEXT NOT NULL, chain BLOB NOT NULL) STRICT""",
    """CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry
        BEGIN SELECT RAISE(ABORT, 'ledger entries are append-only'); END""",
    """CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry
        BEGIN SELECT RAISE(ABORT, 'ledger entries are append-only'); END""",
    "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # One row for each intake node: where its chain of bundles and our chain of returns stand.
    """CREATE TABLE node (
        node TEXT PRIMARY KEY, last_sequence INTEGER NOT NULL, last_manifest TEXT NOT NULL,
        return_number INTEGER NOT NULL, confirmed_return INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    """CREATE TABLE return_made (
        node TEXT NOT NULL, number INTEGER NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY (node, number)
        ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE bundle (
        node TEXT NOT NULL, sequence INTEGER NOT NULL, manifest TEXT NOT NULL, batch_key TEXT,
        orders INTEGER NOT NULL, state TEXT NOT NULL, outcome TEXT NOT NULL, screened_to INTEGER NOT NULL,
        confirmed TEXT NOT NULL, accepted_at INTEGER NOT NULL, settled_at INTEGER NOT NULL, told INTEGER NOT NULL,
        PRIMARY KEY (node, sequence)) STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX one_bundle_a_batch_key ON bundle (batch_key) WHERE batch_key IS NOT NULL",
    # An order's state, the fold of its entries. told: the number of the return that first tells of it, 0 for none yet;
    # whatever is above the last confirmed return goes into the next one, so nothing has to be marked afterwards.
    # number is the order in which orders came: windows of it lie side by side in the file, random ids do not.
    """CREATE TABLE orders (
        number INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE,
        node TEXT NOT NULL, sequence INTEGER NOT NULL, position INTEGER NOT NULL,
        basket_digest BLOB NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, state TEXT NOT NULL,
        reason TEXT NOT NULL, rule TEXT NOT NULL, card TEXT NOT NULL, attempts INTEGER NOT NULL,
        changed_at INTEGER NOT NULL, told INTEGER NOT NULL) STRICT""",
    "CREATE INDEX orders_of_bundle ON orders (node, sequence, position)",
    "CREATE INDEX orders_to_tell ON orders (node, told) WHERE told > 0",
    "CREATE INDEX orders_open ON orders (state) WHERE state IN ('held', 'quarantined')",
    # What cannot be an order of its own: its id is another order's, or its header is unreadable.
    # told as in orders; 0 where the first order's answer stands for this node.
    """CREATE TABLE stray (
        node TEXT NOT NULL, sequence INTEGER NOT NULL, position INTEGER NOT NULL, order_id TEXT NOT NULL,
        rule TEXT NOT NULL, at INTEGER NOT NULL, told INTEGER NOT NULL, PRIMARY KEY (node, sequence, position)
        ) STRICT, WITHOUT ROWID""",
    # An order that came again, perhaps from another node, which then has to be told of it as well.
    """CREATE TABLE repeat (
        order_id TEXT NOT NULL, node TEXT NOT NULL, told INTEGER NOT NULL, PRIMARY KEY (order_id, node)
        ) STRICT, WITHOUT ROWID""",
    # Names and addresses; the only table that a person's erasure touches.
    "CREATE TABLE person (number INTEGER PRIMARY KEY, person TEXT NOT NULL, salt BLOB NOT NULL) STRICT",
    # The one live attempt of an order: the primary key makes a second live authorisation impossible.
    # vault is PAN and expiry under the vault key, gone as soon as no reversal can need it.
    """CREATE TABLE live_attempt (
        number INTEGER PRIMARY KEY REFERENCES orders, attempt INTEGER NOT NULL, state TEXT NOT NULL,
        stan INTEGER NOT NULL,
        rrn TEXT NOT NULL, sent_at INTEGER NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL,
        vault BLOB) STRICT""",
    """CREATE TABLE held_card (
        order_id TEXT PRIMARY KEY, key_id TEXT NOT NULL, box BLOB NOT NULL, destroy_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE refusal (
        node TEXT PRIMARY KEY, rule TEXT NOT NULL, expected INTEGER NOT NULL, seen_at INTEGER NOT NULL,
        told INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
)


@migrations()
def first_form(database: Database) -> None:
    """All tables of the first version."""
    for table in _TABLES:
        database.execute(table)


_MIRROR_AND_EPOCHS = (
    # One row: how many transactions were committed, and a random token of the newest. Two files that agree in both
    # and in their newest entry are the same (ledger/mirror.py).
    "CREATE TABLE commit_mark (number INTEGER NOT NULL, token BLOB NOT NULL) STRICT",
    "INSERT INTO commit_mark (number, token) VALUES (0, x'')",
    # Return numbers go on across epochs, names do not.
    "ALTER TABLE return_made ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1",
    # What the acquirer's report shows approved, of orders that this ledger does not have as paid yet: their bundle
    # is still to come (again), or a person has to decide. The database itself keeps such an order from being
    # charged, and from being told to order again.
    """CREATE TABLE reported (
        rrn TEXT PRIMARY KEY, order_id TEXT NOT NULL, stan INTEGER NOT NULL, at INTEGER NOT NULL,
        amount INTEGER NOT NULL, currency TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE INDEX reported_orders ON reported (order_id)",
    """CREATE TRIGGER reported_is_not_charged_again BEFORE INSERT ON live_attempt
        WHEN NEW.state = 'intent' AND EXISTS (SELECT 1 FROM reported) AND EXISTS (
            SELECT 1 FROM orders AS o JOIN reported AS r USING (order_id) WHERE o.number = NEW.number)
        BEGIN SELECT RAISE(ABORT, 'the acquirer has charged this order already'); END""",
    """CREATE TRIGGER reported_is_not_ordered_again BEFORE UPDATE OF state ON orders
        WHEN NEW.state IN ('order-again', 'declined')
            AND EXISTS (SELECT 1 FROM reported AS r WHERE r.order_id = NEW.order_id)
        BEGIN SELECT RAISE(ABORT, 'the acquirer has charged this order already'); END""",
    # What every return of a node carries until a bundle confirms one that did; told: the first such return.
    """CREATE TABLE announcement (
        node TEXT NOT NULL, what TEXT NOT NULL, told INTEGER NOT NULL, PRIMARY KEY (node, what)
        ) STRICT, WITHOUT ROWID""",
    # What the last run saw, for `status`, which opens no key.
    "CREATE TABLE seen (name TEXT PRIMARY KEY, at INTEGER NOT NULL, document TEXT NOT NULL) STRICT, WITHOUT ROWID",
)


@migrations()
def second_form(database: Database) -> None:
    """The mark of each transaction; epochs, reconciliation, announcements."""
    for statement in _MIRROR_AND_EPOCHS:
        database.execute(statement)


_BATCH_FILES = (
    # sha256 and signature are set when the file is finished; until then its records may still be withdrawn.
    """CREATE TABLE batch_file (
        number INTEGER PRIMARY KEY, made_at INTEGER NOT NULL, sha256 TEXT NOT NULL, signature TEXT NOT NULL,
        complete INTEGER NOT NULL) STRICT""",
    # A record is named by kind, retrieval reference and trace number: handing it over twice breaks the primary key.
    # box is sealed to the acquirer's key and goes when its whole file is answered, or the record is withdrawn.
    """CREATE TABLE batch_record (
        kind TEXT NOT NULL, rrn TEXT NOT NULL, stan INTEGER NOT NULL, file INTEGER NOT NULL, place INTEGER NOT NULL,
        number INTEGER NOT NULL, order_id TEXT NOT NULL, attempt INTEGER NOT NULL, operation TEXT NOT NULL,
        sent_at INTEGER NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, box BLOB, state TEXT NOT NULL,
        code TEXT NOT NULL, approval TEXT NOT NULL, closed INTEGER NOT NULL,
        PRIMARY KEY (kind, rrn, stan)) STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX batch_record_place ON batch_record (file, place)",
    "CREATE UNIQUE INDEX batch_record_operation ON batch_record (operation) WHERE operation != ''",
    """CREATE TABLE batch_answer (
        file INTEGER NOT NULL, number INTEGER NOT NULL, sha256 TEXT NOT NULL UNIQUE, at INTEGER NOT NULL,
        PRIMARY KEY (file, number)) STRICT, WITHOUT ROWID""",
    # What a person must look into; settled when closed_at is above 0.
    """CREATE TABLE batch_case (
        id INTEGER PRIMARY KEY, file INTEGER NOT NULL, rule TEXT NOT NULL, what TEXT NOT NULL, at INTEGER NOT NULL,
        closed_at INTEGER NOT NULL) STRICT""",
)


@migrations()
def batch_files(database: Database) -> None:
    """Records for the acquirer's file, and its answers."""
    for statement in _BATCH_FILES:
        database.execute(statement)


_REVERSALS_AND_VAULT = (
    # What a person needs to phone the acquirer, and the reversal under way: its own id, trace number and time.
    "ALTER TABLE live_attempt ADD COLUMN approval TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE live_attempt ADD COLUMN operation TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE live_attempt ADD COLUMN operation_stan INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE live_attempt ADD COLUMN operation_at INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE live_attempt ADD COLUMN tries INTEGER NOT NULL DEFAULT 0",
    # The vault's box never stands without the time at which it is erased.
    """ALTER TABLE live_attempt ADD COLUMN vault_until INTEGER NOT NULL DEFAULT 0
        CHECK (vault IS NULL OR vault_until > 0)""",
    # Goods that are not there yet: the order is authorised, and captured when they are dispatched.
    "ALTER TABLE orders ADD COLUMN release_at INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX orders_authorised ON orders (state) WHERE state = 'authorised'",
    # Declines that are tried again later, without a CVV: PAN and expiry under the vault key until the deadline.
    """CREATE TABLE retry (
        number INTEGER PRIMARY KEY REFERENCES orders, vault BLOB NOT NULL, declined INTEGER NOT NULL,
        not_before INTEGER NOT NULL, deadline INTEGER NOT NULL) STRICT""",
)


@migrations()
def reversals_and_vault(database: Database) -> None:
    """Reversals as operations of their own, deadlines of the vault, declines that are tried again."""
    for statement in _REVERSALS_AND_VAULT:
        database.execute(statement)


_OPERATIONS = (
    # What follows an approval: captures, refunds, voids. The id is ours, the same in every repetition; stan and sent_at
    # are the operation's own, original_stan and original_at those of the authorisation, which has the same rrn.
    # reference: what a person named it by; the same one twice is the same operation. closed: the close that counted it.
    """CREATE TABLE operation (
        id TEXT PRIMARY KEY, number INTEGER NOT NULL REFERENCES orders, attempt INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('capture', 'refund', 'void')), reference TEXT NOT NULL,
        amount INTEGER NOT NULL CHECK (amount >= 0), currency TEXT NOT NULL, final INTEGER NOT NULL,
        stan INTEGER NOT NULL, sent_at INTEGER NOT NULL, rrn TEXT NOT NULL, original_stan INTEGER NOT NULL,
        original_at INTEGER NOT NULL, original_amount INTEGER NOT NULL, approval TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed')), code TEXT NOT NULL,
        tries INTEGER NOT NULL, closed INTEGER NOT NULL, UNIQUE (number, kind, reference)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX operations_pending ON operation (sent_at) WHERE state = 'pending'",
    """CREATE TRIGGER no_more_is_taken_than_was_authorised BEFORE INSERT ON operation WHEN NEW.kind = 'capture'
        AND NEW.amount + (SELECT coalesce(sum(amount), 0) FROM operation AS o WHERE o.number = NEW.number
            AND o.attempt = NEW.attempt AND o.kind = 'capture' AND o.state != 'failed')
        > coalesce((SELECT amount FROM live_attempt AS l WHERE l.number = NEW.number
            AND l.attempt = NEW.attempt AND l.state = 'approved'), 0)
        BEGIN SELECT RAISE(ABORT, 'more would be captured than was authorised'); END""",
    """CREATE TRIGGER no_more_is_given_back_than_was_taken BEFORE INSERT ON operation WHEN NEW.kind = 'refund'
        AND NEW.amount + (SELECT coalesce(sum(amount), 0) FROM operation AS o WHERE o.number = NEW.number
            AND o.kind = 'refund' AND o.state != 'failed')
        > (SELECT coalesce(sum(amount), 0) FROM operation AS o WHERE o.number = NEW.number
            AND o.kind = 'capture' AND o.state = 'done')
        BEGIN SELECT RAISE(ABORT, 'more would be given back than was taken'); END""",
    """CREATE TRIGGER what_is_answered_stays_answered BEFORE UPDATE OF state ON operation
        WHEN OLD.state != 'pending' AND NEW.state != OLD.state
        BEGIN SELECT RAISE(ABORT, 'an answered operation does not change'); END""",
)


@migrations()
def operations(database: Database) -> None:
    """Captures, refunds and voids."""
    for statement in _OPERATIONS:
        database.execute(statement)


_DISCLOSURES = (
    # A file or a stack of paper that names people, by the purpose that exports/purposes.py declares. It is recorded
    # before it is released; withdrawn: it never was, and its orders may go into another one.
    """CREATE TABLE export (
        id INTEGER PRIMARY KEY, purpose TEXT NOT NULL, recipient TEXT NOT NULL, format TEXT NOT NULL,
        fields TEXT NOT NULL, ground TEXT NOT NULL, made_at INTEGER NOT NULL, who TEXT NOT NULL, name TEXT NOT NULL,
        sha256 TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('recorded', 'released', 'withdrawn'))) STRICT""",
    # Whose data is in it. reference: what the recipient knows the order by, where that is not its id.
    """CREATE TABLE disclosure (
        number INTEGER NOT NULL REFERENCES orders, export INTEGER NOT NULL REFERENCES export, reference TEXT NOT NULL,
        PRIMARY KEY (number, export)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX disclosures_of_export ON disclosure (export)",
    "CREATE UNIQUE INDEX reference_is_of_one_order ON disclosure (reference) WHERE reference != ''",
    # Who must not be named to anyone, or not for one purpose ('all' or its name). subject: a digest of the email
    # address under this ledger's own salt, so that a wish outlives the erasure of the person.
    """CREATE TABLE restriction (
        subject TEXT NOT NULL, purpose TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (subject, purpose)
        ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE subject_salt (one INTEGER PRIMARY KEY CHECK (one = 1), salt BLOB NOT NULL) STRICT",
)


@migrations()
def disclosures(database: Database) -> None:
    """What was disclosed of whom to whom, and who asked not to be named."""
    for statement in _DISCLOSURES:
        database.execute(statement)


_TRAIL = (
    # How far the ledger went when the offline identity last signed its tip: one row (ledger/anchor.py).
    """CREATE TABLE anchor (
        one INTEGER PRIMARY KEY CHECK (one = 1), document BLOB NOT NULL, signature TEXT NOT NULL) STRICT""",
    "CREATE INDEX commands ON entry (id) WHERE kind IN ('command-begun', 'command-ended')",
    # The records of acts of `key-ceremony` of which the entries tell.
    "CREATE TABLE key_act (record TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
)


@migrations()
def trail(database: Database) -> None:
    """Commands, and the tip that was signed."""
    for statement in _TRAIL:
        database.execute(statement)


_OPERATION_BOUNDS = (
    "CREATE INDEX operations_failed ON operation (number) WHERE state = 'failed'",
    """CREATE TRIGGER nothing_is_taken_of_what_is_released BEFORE INSERT ON operation WHEN NEW.kind = 'capture'
        AND EXISTS (SELECT 1 FROM operation AS o WHERE o.number = NEW.number AND o.attempt = NEW.attempt
            AND o.kind = 'void' AND o.state != 'failed')
        BEGIN SELECT RAISE(ABORT, 'its authorisation is released, or about to be'); END""",
    """CREATE TRIGGER only_what_stands_is_released BEFORE INSERT ON operation WHEN NEW.kind = 'void'
        AND NOT EXISTS (SELECT 1 FROM live_attempt AS l WHERE l.number = NEW.number AND l.attempt = NEW.attempt
            AND l.state = 'approved')
        BEGIN SELECT RAISE(ABORT, 'there is no authorisation to release'); END""",
    """CREATE TRIGGER operations_are_in_the_orders_currency BEFORE INSERT ON operation
        WHEN NEW.currency != (SELECT currency FROM orders WHERE number = NEW.number)
        BEGIN SELECT RAISE(ABORT, 'the order is in another currency'); END""",
    """CREATE TRIGGER what_is_owed_stays_what_it_is
        BEFORE UPDATE OF id, number, attempt, kind, reference, amount, currency, stan, rrn ON operation
        BEGIN SELECT RAISE(ABORT, 'an operation does not change'); END""",
    """CREATE TRIGGER operation_is_never_deleted BEFORE DELETE ON operation
        BEGIN SELECT RAISE(ABORT, 'an operation is never forgotten'); END""",
)


@migrations()
def operation_bounds(database: Database) -> None:
    """What the database itself forbids of captures, refunds and voids."""
    for statement in _OPERATION_BOUNDS:
        database.execute(statement)


_CASES = (
    # A decision that waits for a second person. person and second: names by which people are told apart.
    """CREATE TABLE request (
        number INTEGER PRIMARY KEY, document TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL,
        order_id TEXT NOT NULL, who TEXT NOT NULL, person TEXT NOT NULL CHECK (person != ''), why TEXT NOT NULL,
        at INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('asked', 'approved', 'refused')),
        second TEXT NOT NULL, closed_at INTEGER NOT NULL) STRICT""",
    "CREATE INDEX requests_asked ON request (number) WHERE state = 'asked'",
    """CREATE TRIGGER nobody_approves_alone BEFORE UPDATE OF state ON request
        WHEN NEW.state = 'approved' AND (NEW.second = OLD.person OR NEW.second = '')
        BEGIN SELECT RAISE(ABORT, 'a second person is needed'); END""",
    """CREATE TRIGGER request_stays_what_it_is BEFORE UPDATE OF number, document, amount, currency, order_id, person
        ON request BEGIN SELECT RAISE(ABORT, 'a request does not change'); END""",
    # Cases that a person has closed by a word; the others end with what they are about.
    """CREATE TABLE case_closed (id TEXT PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
    # Declines that are a person's case until it is closed: refer to the issuer, and our own fault.
    "CREATE INDEX orders_declined ON orders (rule) WHERE state = 'declined'",
    # ours and theirs: minor units, -1 for none. key: what the finding is about, the same in every report.
    """CREATE TABLE reconcile_exception (
        number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, rule TEXT NOT NULL, what TEXT NOT NULL,
        order_id TEXT NOT NULL, rrn TEXT NOT NULL, stan INTEGER NOT NULL, ours INTEGER NOT NULL,
        theirs INTEGER NOT NULL, currency TEXT NOT NULL, at INTEGER NOT NULL, closed_at INTEGER NOT NULL) STRICT""",
    "CREATE INDEX exceptions_open ON reconcile_exception (number) WHERE closed_at = 0",
    # The close of day, one row a currency; operation.closed is the close that counted it.
    """CREATE TABLE closed_batch (
        close INTEGER NOT NULL, currency TEXT NOT NULL, captures INTEGER NOT NULL, captured INTEGER NOT NULL,
        refunds INTEGER NOT NULL, refunded INTEGER NOT NULL, stan INTEGER NOT NULL, sent_at INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'in balance', 'out of balance', 'not compared')),
        PRIMARY KEY (close, currency)) STRICT, WITHOUT ROWID""",
    """CREATE TRIGGER close_is_answered_once BEFORE UPDATE OF state ON closed_batch WHEN OLD.state != 'pending'
        BEGIN SELECT RAISE(ABORT, 'a close that was answered does not change'); END""",
)


@migrations()
def cases(database: Database) -> None:
    """Cases of people: second persons, exceptions of reconciliation, closes of day."""
    for statement in _CASES:
        database.execute(statement)


_SUBJECTS = (
    # What people asked about their data, as it came in a bundle. email is theirs, and goes with the answer.
    # told: the return that first tells of the answer, as in orders.
    """CREATE TABLE subject_request (
        request TEXT PRIMARY KEY, node TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('export', 'erase', 'restrict')), email TEXT NOT NULL, orders TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'refused')),
        came_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, told INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE INDEX subject_requests_to_tell ON subject_request (node, told) WHERE told > 0",
    # Whose data must stay although its time is over: a dispute, a court, the tax office.
    """CREATE TABLE legal_hold (
        number INTEGER PRIMARY KEY REFERENCES orders, at INTEGER NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL
        ) STRICT""",
    # Erasures that wait until nothing stands against them; request: "" for one that was asked for here.
    """CREATE TABLE erasure_wish (
        number INTEGER PRIMARY KEY REFERENCES orders, at INTEGER NOT NULL, who TEXT NOT NULL, request TEXT NOT NULL
        ) STRICT""",
    """CREATE TRIGGER held_by_law_is_not_erased BEFORE DELETE ON person
        WHEN EXISTS (SELECT 1 FROM legal_hold AS h WHERE h.number = OLD.number)
        BEGIN SELECT RAISE(ABORT, 'a legal hold keeps this data'); END""",
)


@migrations()
def subjects(database: Database) -> None:
    """Requests of people about their data, erasures that wait, legal holds."""
    for statement in _SUBJECTS:
        database.execute(statement)


_FOLLOWING = (
    # Captures and refunds of the acquirer's report, by the retrieval reference of their authorisation.
    """CREATE TABLE reported_following (
        kind TEXT NOT NULL CHECK (kind IN ('capture', 'refund')), rrn TEXT NOT NULL, stan INTEGER NOT NULL,
        at INTEGER NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, PRIMARY KEY (rrn, kind, stan)
        ) STRICT, WITHOUT ROWID""",
)
_KEPT_CARDS = (
    # The boxes that stand beside an approval, by the time of their end.
    """CREATE INDEX vault_of_approved ON live_attempt (vault_until) WHERE vault IS NOT NULL AND state = 'approved'""",
)
_STANS = ("CREATE INDEX operations_pending_stan ON operation (stan) WHERE state = 'pending'",)


@migrations()
def following(database: Database) -> None:
    """What followed a reported authorisation."""
    for statement in _FOLLOWING:
        database.execute(statement)


@migrations()
def kept_cards(database: Database) -> None:
    """Where the vault's boxes are found when their time is over."""
    for statement in _KEPT_CARDS:
        database.execute(statement)


@migrations()
def subjects_waiting(database: Database) -> None:
    """The requests that wait are counted in every status."""
    database.execute(
        "CREATE INDEX subject_requests_waiting ON subject_request (came_at) WHERE state = 'waiting'"
    )


@migrations()
def stans(database: Database) -> None:
    """Which trace numbers are on their way."""
    for statement in _STANS:
        database.execute(statement)


@migrations()
def reported_stans(database: Database) -> None:
    """Which trace numbers a lost ledger gave."""
    database.execute("CREATE INDEX reported_following_stan ON reported_following (stan)")


_CAPTURE_OF_ORDER = (
    # What a person said of one order: take it at once, or when its goods go; "" leaves it to goods and configuration.
    """ALTER TABLE orders ADD COLUMN capture TEXT NOT NULL DEFAULT ''
        CHECK (capture IN ('', 'sale', 'dispatch'))""",
    """CREATE TRIGGER capture_is_said_before_the_charge BEFORE UPDATE OF capture ON orders
        WHEN NEW.capture != '' AND (OLD.state NOT IN ('screened', 'held')
            OR EXISTS (SELECT 1 FROM live_attempt AS l WHERE l.number = OLD.number))
        BEGIN SELECT RAISE(ABORT, 'it is charged, or with the acquirer'); END""",
)


@migrations()
def capture_of_order(database: Database) -> None:
    """When one order is captured, by a person's word."""
    for statement in _CAPTURE_OF_ORDER:
        database.execute(statement)


@migrations()
def open_orders(database: Database) -> None:
    """The orders that wait, found by either state: the index serves only whoever says one of its own terms."""
    database.execute("DROP INDEX orders_open")
    database.execute(
        "CREATE INDEX orders_open ON orders (state)"
        " WHERE state = 'held' OR state = 'quarantined' OR state IN ('held', 'quarantined')"
    )
