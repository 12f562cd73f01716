package import Database

/// The tables of rooms and their logs.
///
/// `room_heads.changed_in` is a position in the database's own order of changes (`ChangePosition`). Triggers set it,
/// so that no writer can forget it, neither a node of an older release nor an operator's own statement. On Postgres,
/// `access_changed_at` remains for nodes of the first release, which compare by it during a rolling upgrade.
///
/// `entries.type` is the code of an entry's kind (`EntryCoding`). `non_messages` counts, in each entry and in the
/// head, the entries that are not messages: the ordinal of an entry is `seq - non_messages`.
///
/// The present text of a message is in `contents`, under the message's id. Ids are made in the order of time, so
/// contents of all rooms fill one page after the other. A key by room would touch a page per room in every commit.
///
/// The present state of a message is in its row of `entries`. It is written in the commit of the entry that changes it
/// (`MessageChanges`), and null in messages that were never changed: `text_seq` is the edit whose text the message
/// has, `edited_at` that edit's time, `erased_at` the time of the deletion, `updated_seq` the last entry that touched
/// the message, and `reaction_kinds` the number of rows in `reaction_counts`. `extras` holds mentions and the origin of
/// a forwarded message; for an entry of a reaction, the emoji.
///
/// `earlier_texts` keeps what a message said before, by the seq of the entry that gave it that text. The text of a
/// deleted message is moved there, so that no reader of messages finds it.
///
/// `reactions`, `reaction_counts` and `mentions` are the present ones. `first_seq` is the entry that brought the emoji.
///
/// `client_keys` (SQLite) is the index of idempotency keys: `ClientKeyIndex`.
///
/// `room_people.state` is 0 for a person who has left, 1 for a person of the room, and 2 for a person who has not
/// accepted yet. `version` is the access version that the room got with the row's last change. So a node that knows an
/// older version of the room reads only the rows that have changed since; rows of people who left remain for that.
///
/// `room_acts` says which accounts are in a room by their own act: they made it or accepted an invitation to it. Two
/// accounts with such a room in common know each other (`Circle`).
///
/// `room_marks` says up to which seq a person has read a room, and the ordinal of that place; below 0 if the person may not
/// read it any more, or has none. Everyone who has written in a room has a row (`AuthoredMessages`). `room_reads` is how the
/// marks got there, for the question when somebody first saw a message. Sending a message moves its sender's mark, too:
/// `room_heads.marked_seq` says up to which seq that is written (`OwnMarks`).
///
/// `room_heads.message_seq` and `message_ts` are those of the last message; 0 if there is none.
///
/// `search_documents` has the words of each message that can be found (`SearchDocument`), under its place in the order of
/// time (`SearchPlace`). `text_seq` is the entry that gave the message the text that they are from. `search_heads` says up
/// to which seq a room is indexed. On SQLite these tables are in a file of their own (`SearchIndexFile`), with
/// `search_words`, the index, which triggers keep.
///
/// In secret rooms `contents` holds sealed texts, and `message_keys` the key of each (`SecretKey`). Such a room's
/// `room_heads.secrecy` is the number of seconds after which a message is destroyed, or 0; it is null for all other rooms.
/// The digest of an entry is keyed there, and null once the text is destroyed that it was made from.
///
/// `rooms.dialog_key` names the two people of a dialog and its team, so that there is only one dialog for them.
package enum ChatSchema {
  package static let migrations: [Migration] = [
    Migration(
      feature: "chat", number: 1,
      SQL(
        sqlite: """
          CREATE TABLE instance (
            key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
          CREATE TABLE rooms (
            id INTEGER PRIMARY KEY AUTOINCREMENT, type INTEGER NOT NULL, name TEXT NOT NULL,
            level_admin INTEGER NOT NULL, owner_user BLOB NOT NULL, owner_entity BLOB,
            by_invitation INTEGER NOT NULL, created_at INTEGER NOT NULL, deleted_at INTEGER) STRICT;
          CREATE TABLE room_rules (
            room_id INTEGER NOT NULL, subject BLOB NOT NULL, permissions INTEGER NOT NULL,
            level INTEGER NOT NULL, accepted INTEGER NOT NULL,
            PRIMARY KEY (room_id, subject)) STRICT, WITHOUT ROWID;
          CREATE INDEX room_rules_by_subject ON room_rules (subject, room_id);
          CREATE TABLE room_heads (
            room_id INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, last_ts INTEGER NOT NULL,
            access_version INTEGER NOT NULL, access_changed_at INTEGER NOT NULL) STRICT;
          CREATE INDEX room_heads_by_change ON room_heads (access_changed_at);
          CREATE TABLE entries (
            room_id INTEGER NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, type INTEGER NOT NULL,
            sender BLOB NOT NULL, ts INTEGER NOT NULL, client_id TEXT, digest BLOB,
            PRIMARY KEY (room_id, seq)) STRICT, WITHOUT ROWID;
          CREATE UNIQUE INDEX entries_by_id ON entries (id);
          CREATE UNIQUE INDEX entries_by_client_id ON entries (room_id, sender, client_id)
            WHERE client_id IS NOT NULL;
          CREATE TABLE contents (
            id BLOB PRIMARY KEY, data TEXT NOT NULL) STRICT, WITHOUT ROWID;
          """,
        postgres: """
          CREATE TABLE instance (key TEXT PRIMARY KEY, value TEXT NOT NULL);
          CREATE TABLE rooms (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type BIGINT NOT NULL,
            name TEXT NOT NULL, level_admin BIGINT NOT NULL, owner_user BYTEA NOT NULL,
            owner_entity BYTEA, by_invitation BIGINT NOT NULL, created_at BIGINT NOT NULL,
            deleted_at BIGINT);
          CREATE TABLE room_rules (
            room_id BIGINT NOT NULL, subject BYTEA NOT NULL, permissions BIGINT NOT NULL,
            level BIGINT NOT NULL, accepted BIGINT NOT NULL, PRIMARY KEY (room_id, subject));
          CREATE INDEX room_rules_by_subject ON room_rules (subject, room_id);
          CREATE TABLE room_heads (
            room_id BIGINT PRIMARY KEY, last_seq BIGINT NOT NULL, last_ts BIGINT NOT NULL,
            access_version BIGINT NOT NULL, access_changed_at BIGINT NOT NULL);
          CREATE INDEX room_heads_by_change ON room_heads (access_changed_at);
          CREATE TABLE entries (
            room_id BIGINT NOT NULL, seq BIGINT NOT NULL, id BYTEA NOT NULL, type BIGINT NOT NULL,
            sender BYTEA NOT NULL, ts BIGINT NOT NULL, client_id TEXT, digest BYTEA,
            PRIMARY KEY (room_id, seq));
          CREATE UNIQUE INDEX entries_by_id ON entries (id);
          CREATE UNIQUE INDEX entries_by_client_id ON entries (room_id, sender, client_id)
            WHERE client_id IS NOT NULL;
          CREATE TABLE contents (id BYTEA PRIMARY KEY, data TEXT NOT NULL);
          """)),
    // Entries of other kinds than messages, and changes in the database's own order. On Postgres, nodes of the first
    // release keep running beside this: tables are locked in their order, and the index by which they look up entries
    // without a client id remains until the next release.
    Migration(
      feature: "chat", number: 2,
      SQL(
        sqlite: """
          ALTER TABLE entries ADD COLUMN target_seq INTEGER;
          ALTER TABLE entries ADD COLUMN non_messages INTEGER NOT NULL DEFAULT 0;
          ALTER TABLE entries ADD COLUMN erased_at INTEGER;
          DROP INDEX entries_by_id;
          CREATE UNIQUE INDEX entries_by_id ON entries (id) WHERE client_id IS NULL;
          ALTER TABLE room_heads ADD COLUMN non_messages INTEGER NOT NULL DEFAULT 0;
          DROP INDEX room_heads_by_change;
          ALTER TABLE room_heads DROP COLUMN access_changed_at;
          ALTER TABLE room_heads ADD COLUMN changed_in INTEGER NOT NULL DEFAULT 0;
          CREATE INDEX room_heads_by_change ON room_heads (changed_in) WHERE changed_in > 0;
          CREATE TRIGGER room_heads_made AFTER INSERT ON room_heads BEGIN
            UPDATE change_counter SET value = value + 1;
            UPDATE room_heads SET changed_in = (SELECT value FROM change_counter)
              WHERE room_id = NEW.room_id;
          END;
          CREATE TRIGGER room_heads_changed AFTER UPDATE OF access_version ON room_heads BEGIN
            UPDATE change_counter SET value = value + 1;
            UPDATE room_heads SET changed_in = (SELECT value FROM change_counter)
              WHERE room_id = NEW.room_id;
          END;
          CREATE INDEX rooms_by_owner ON rooms (owner_user) WHERE deleted_at IS NULL;
          """,
        postgres: """
          LOCK TABLE room_heads, entries IN ACCESS EXCLUSIVE MODE;
          ALTER TABLE entries ADD COLUMN target_seq BIGINT,
            ADD COLUMN non_messages BIGINT NOT NULL DEFAULT 0, ADD COLUMN erased_at BIGINT;
          ALTER TABLE room_heads ADD COLUMN non_messages BIGINT NOT NULL DEFAULT 0,
            ADD COLUMN changed_in BIGINT NOT NULL DEFAULT 0;
          CREATE INDEX room_heads_by_position ON room_heads (changed_in) WHERE changed_in > 0;
          CREATE FUNCTION martlet_room_changed() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              NEW.changed_in := pg_current_xact_id()::text::bigint;
              NEW.access_changed_at := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
              RETURN NEW;
            END $$;
          CREATE TRIGGER room_heads_changed BEFORE INSERT OR UPDATE OF access_version ON room_heads
            FOR EACH ROW EXECUTE FUNCTION martlet_room_changed();
          CREATE INDEX rooms_by_owner ON rooms (owner_user) WHERE deleted_at IS NULL;
          """)),
    // On SQLite the idempotency keys move to a table that is filled in bulk (`ClientKeyIndex`).
    Migration(
      feature: "chat", number: 3,
      SQL(
        sqlite: """
          CREATE TABLE client_keys (
            room_id INTEGER NOT NULL, sender BLOB NOT NULL, client_id TEXT NOT NULL,
            seq INTEGER NOT NULL, PRIMARY KEY (room_id, sender, client_id)) STRICT, WITHOUT ROWID;
          INSERT INTO client_keys (room_id, sender, client_id, seq)
            SELECT room_id, sender, client_id, seq FROM entries WHERE client_id IS NOT NULL
            ORDER BY room_id, sender, client_id;
          DROP INDEX entries_by_client_id;
          ALTER TABLE room_heads ADD COLUMN keyed_seq INTEGER NOT NULL DEFAULT 0;
          UPDATE room_heads SET keyed_seq = last_seq;
          """,
        postgres: "SELECT 1")),
    // Rooms with people and roles, dialogs, and the channels of teams.
    Migration(
      feature: "chat", number: 4,
      SQL(
        sqlite: """
          ALTER TABLE rooms ADD COLUMN default_permissions INTEGER NOT NULL DEFAULT 3;
          ALTER TABLE rooms ADD COLUMN team_id BLOB;
          ALTER TABLE rooms ADD COLUMN write_block INTEGER;
          ALTER TABLE rooms ADD COLUMN dialog_key BLOB;
          CREATE UNIQUE INDEX rooms_by_dialog ON rooms (dialog_key)
            WHERE dialog_key IS NOT NULL AND deleted_at IS NULL;
          CREATE INDEX rooms_by_team ON rooms (team_id) WHERE team_id IS NOT NULL;
          CREATE TABLE room_people (
            room_id INTEGER NOT NULL, user_id BLOB NOT NULL, role_id BLOB,
            joined_at INTEGER NOT NULL, state INTEGER NOT NULL, version INTEGER NOT NULL,
            invitation_id BLOB, PRIMARY KEY (room_id, user_id)) STRICT, WITHOUT ROWID;
          CREATE INDEX room_people_by_user ON room_people (user_id, room_id) WHERE state <> 0;
          CREATE INDEX room_people_by_version ON room_people (room_id, version);
          CREATE UNIQUE INDEX room_people_by_invitation ON room_people (invitation_id)
            WHERE invitation_id IS NOT NULL;
          CREATE TABLE room_acts (
            user_id BLOB NOT NULL, room_id INTEGER NOT NULL,
            PRIMARY KEY (user_id, room_id)) STRICT, WITHOUT ROWID;
          CREATE TABLE room_roles (
            room_id INTEGER NOT NULL, id BLOB NOT NULL, name TEXT NOT NULL,
            permissions INTEGER NOT NULL, PRIMARY KEY (room_id, id)) STRICT, WITHOUT ROWID;
          """,
        postgres: """
          ALTER TABLE rooms ADD COLUMN default_permissions BIGINT NOT NULL DEFAULT 3,
            ADD COLUMN team_id BYTEA, ADD COLUMN write_block BIGINT, ADD COLUMN dialog_key BYTEA;
          CREATE UNIQUE INDEX rooms_by_dialog ON rooms (dialog_key)
            WHERE dialog_key IS NOT NULL AND deleted_at IS NULL;
          CREATE INDEX rooms_by_team ON rooms (team_id) WHERE team_id IS NOT NULL;
          CREATE TABLE room_people (
            room_id BIGINT NOT NULL, user_id BYTEA NOT NULL, role_id BYTEA,
            joined_at BIGINT NOT NULL, state BIGINT NOT NULL, version BIGINT NOT NULL,
            invitation_id BYTEA, PRIMARY KEY (room_id, user_id));
          CREATE INDEX room_people_by_user ON room_people (user_id, room_id) WHERE state <> 0;
          CREATE INDEX room_people_by_version ON room_people (room_id, version);
          CREATE UNIQUE INDEX room_people_by_invitation ON room_people (invitation_id)
            WHERE invitation_id IS NOT NULL;
          CREATE TABLE room_acts (
            user_id BYTEA NOT NULL, room_id BIGINT NOT NULL, PRIMARY KEY (user_id, room_id));
          CREATE TABLE room_roles (
            room_id BIGINT NOT NULL, id BYTEA NOT NULL, name TEXT NOT NULL,
            permissions BIGINT NOT NULL, PRIMARY KEY (room_id, id));
          """)),
    // The life of messages: edits, deletions, reactions and mentions.
    Migration(
      feature: "chat", number: 5,
      SQL(
        sqlite: """
          ALTER TABLE entries ADD COLUMN extras TEXT;
          ALTER TABLE entries ADD COLUMN text_seq INTEGER;
          ALTER TABLE entries ADD COLUMN edited_at INTEGER;
          ALTER TABLE entries ADD COLUMN updated_seq INTEGER;
          ALTER TABLE entries ADD COLUMN reaction_kinds INTEGER;
          CREATE TABLE earlier_texts (
            room_id INTEGER NOT NULL, seq INTEGER NOT NULL, version_seq INTEGER NOT NULL,
            ts INTEGER NOT NULL, data TEXT NOT NULL, deleted_at INTEGER,
            PRIMARY KEY (room_id, seq, version_seq)) STRICT, WITHOUT ROWID;
          CREATE INDEX earlier_texts_by_deletion ON earlier_texts (deleted_at)
            WHERE deleted_at IS NOT NULL;
          CREATE TABLE reactions (
            room_id INTEGER NOT NULL, seq INTEGER NOT NULL, emoji TEXT NOT NULL,
            user_id BLOB NOT NULL, entry_seq INTEGER NOT NULL, ts INTEGER NOT NULL,
            PRIMARY KEY (room_id, seq, emoji, user_id)) STRICT, WITHOUT ROWID;
          CREATE TABLE reaction_counts (
            room_id INTEGER NOT NULL, seq INTEGER NOT NULL, emoji TEXT NOT NULL,
            people INTEGER NOT NULL, first_seq INTEGER NOT NULL,
            PRIMARY KEY (room_id, seq, emoji)) STRICT, WITHOUT ROWID;
          CREATE TABLE mentions (
            user_id BLOB NOT NULL, room_id INTEGER NOT NULL, seq INTEGER NOT NULL,
            PRIMARY KEY (user_id, room_id, seq)) STRICT, WITHOUT ROWID;
          """,
        postgres: """
          ALTER TABLE entries ADD COLUMN extras TEXT, ADD COLUMN text_seq BIGINT,
            ADD COLUMN edited_at BIGINT, ADD COLUMN updated_seq BIGINT,
            ADD COLUMN reaction_kinds BIGINT;
          CREATE TABLE earlier_texts (
            room_id BIGINT NOT NULL, seq BIGINT NOT NULL, version_seq BIGINT NOT NULL,
            ts BIGINT NOT NULL, data TEXT NOT NULL, deleted_at BIGINT,
            PRIMARY KEY (room_id, seq, version_seq));
          CREATE INDEX earlier_texts_by_deletion ON earlier_texts (deleted_at)
            WHERE deleted_at IS NOT NULL;
          CREATE TABLE reactions (
            room_id BIGINT NOT NULL, seq BIGINT NOT NULL, emoji TEXT NOT NULL,
            user_id BYTEA NOT NULL, entry_seq BIGINT NOT NULL, ts BIGINT NOT NULL,
            PRIMARY KEY (room_id, seq, emoji, user_id));
          CREATE TABLE reaction_counts (
            room_id BIGINT NOT NULL, seq BIGINT NOT NULL, emoji TEXT NOT NULL,
            people BIGINT NOT NULL, first_seq BIGINT NOT NULL,
            PRIMARY KEY (room_id, seq, emoji));
          CREATE TABLE mentions (
            user_id BYTEA NOT NULL, room_id BIGINT NOT NULL, seq BIGINT NOT NULL,
            PRIMARY KEY (user_id, room_id, seq));
          """)),
    // What people have read, and the last message of each room.
    Migration(
      feature: "chat", number: 6,
      SQL(
        sqlite: """
          CREATE TABLE room_marks (
            user_id BLOB NOT NULL, room_id INTEGER NOT NULL, seq INTEGER NOT NULL,
            ordinal INTEGER NOT NULL, is_muted INTEGER NOT NULL DEFAULT 0, muted_until INTEGER,
            PRIMARY KEY (user_id, room_id)) STRICT, WITHOUT ROWID;
          CREATE INDEX room_marks_by_room ON room_marks (room_id, user_id);
          CREATE INDEX room_marks_muted ON room_marks (room_id, user_id) WHERE is_muted = 1;
          CREATE TABLE room_reads (
            room_id INTEGER NOT NULL, user_id BLOB NOT NULL, seq INTEGER NOT NULL,
            ts INTEGER NOT NULL, PRIMARY KEY (room_id, user_id, seq)) STRICT, WITHOUT ROWID;
          ALTER TABLE room_heads ADD COLUMN marked_seq INTEGER NOT NULL DEFAULT 0;
          ALTER TABLE room_heads ADD COLUMN message_seq INTEGER NOT NULL DEFAULT 0;
          ALTER TABLE room_heads ADD COLUMN message_ts INTEGER NOT NULL DEFAULT 0;
          UPDATE room_heads SET marked_seq = last_seq,
            message_seq = coalesce((SELECT seq FROM entries e
              WHERE e.room_id = room_heads.room_id AND e.type < 16 ORDER BY seq DESC LIMIT 1), 0);
          UPDATE room_heads SET message_ts = coalesce((SELECT ts FROM entries e
            WHERE e.room_id = room_heads.room_id AND e.seq = room_heads.message_seq), 0);
          """,
        postgres: """
          LOCK TABLE room_heads IN ACCESS EXCLUSIVE MODE;
          CREATE TABLE room_marks (
            user_id BYTEA NOT NULL, room_id BIGINT NOT NULL, seq BIGINT NOT NULL,
            ordinal BIGINT NOT NULL, is_muted BIGINT NOT NULL DEFAULT 0, muted_until BIGINT,
            PRIMARY KEY (user_id, room_id));
          CREATE INDEX room_marks_by_room ON room_marks (room_id, user_id);
          CREATE INDEX room_marks_muted ON room_marks (room_id, user_id) WHERE is_muted = 1;
          CREATE TABLE room_reads (
            room_id BIGINT NOT NULL, user_id BYTEA NOT NULL, seq BIGINT NOT NULL,
            ts BIGINT NOT NULL, PRIMARY KEY (room_id, user_id, seq));
          ALTER TABLE room_heads ADD COLUMN marked_seq BIGINT NOT NULL DEFAULT 0,
            ADD COLUMN message_seq BIGINT NOT NULL DEFAULT 0,
            ADD COLUMN message_ts BIGINT NOT NULL DEFAULT 0;
          UPDATE room_heads SET marked_seq = last_seq,
            message_seq = coalesce((SELECT seq FROM entries e
              WHERE e.room_id = room_heads.room_id AND e.type < 16 ORDER BY seq DESC LIMIT 1), 0);
          UPDATE room_heads SET message_ts = coalesce((SELECT ts FROM entries e
            WHERE e.room_id = room_heads.room_id AND e.seq = room_heads.message_seq), 0);
          """)),
    // The search index.
    Migration(
      feature: "chat", number: 7,
      SQL(
        sqlite: """
          CREATE TABLE search_heads (
            room_id INTEGER PRIMARY KEY, indexed_seq INTEGER NOT NULL) STRICT;
          CREATE TABLE search_documents (
            id INTEGER PRIMARY KEY, room_id INTEGER NOT NULL, seq INTEGER NOT NULL,
            text_seq INTEGER NOT NULL, words TEXT NOT NULL) STRICT;
          CREATE UNIQUE INDEX search_documents_by_place ON search_documents (room_id, seq);
          CREATE VIRTUAL TABLE search_words USING fts5 (
            words, content='search_documents', content_rowid='id', columnsize=0, tokenize='ascii');
          CREATE TRIGGER search_documents_added AFTER INSERT ON search_documents BEGIN
            INSERT INTO search_words (rowid, words) VALUES (NEW.id, NEW.words);
          END;
          CREATE TRIGGER search_documents_removed AFTER DELETE ON search_documents BEGIN
            INSERT INTO search_words (search_words, rowid, words)
              VALUES ('delete', OLD.id, OLD.words);
          END;
          """,
        postgres: """
          CREATE TABLE search_heads (
            room_id BIGINT PRIMARY KEY, indexed_seq BIGINT NOT NULL);
          CREATE TABLE search_documents (
            id BIGINT PRIMARY KEY, room_id BIGINT NOT NULL, seq BIGINT NOT NULL,
            text_seq BIGINT NOT NULL, words TSVECTOR NOT NULL);
          CREATE UNIQUE INDEX search_documents_by_place ON search_documents (room_id, seq);
          CREATE INDEX search_documents_by_word ON search_documents USING gin (words);
          """)),
    // Secret rooms, and messages that are deleted by themselves.
    Migration(
      feature: "chat", number: 8,
      SQL(
        sqlite: """
          ALTER TABLE rooms ADD COLUMN ttl_seconds INTEGER;
          ALTER TABLE rooms ADD COLUMN retention_days INTEGER;
          ALTER TABLE room_heads ADD COLUMN secrecy INTEGER;
          CREATE TABLE message_keys (
            id BLOB PRIMARY KEY, key BLOB NOT NULL, room_id INTEGER NOT NULL, seq INTEGER NOT NULL,
            expires_at INTEGER) STRICT, WITHOUT ROWID;
          CREATE INDEX message_keys_by_room ON message_keys (room_id);
          CREATE INDEX message_keys_by_expiry ON message_keys (expires_at)
            WHERE expires_at IS NOT NULL;
          CREATE INDEX rooms_by_retention ON rooms (id) WHERE retention_days IS NOT NULL;
          CREATE INDEX rooms_secret_deleted ON rooms (id)
            WHERE type = 3 AND deleted_at IS NOT NULL;
          """,
        postgres: """
          ALTER TABLE rooms ADD COLUMN ttl_seconds BIGINT, ADD COLUMN retention_days BIGINT;
          ALTER TABLE room_heads ADD COLUMN secrecy BIGINT;
          CREATE TABLE message_keys (
            id BYTEA PRIMARY KEY, key BYTEA NOT NULL, room_id BIGINT NOT NULL, seq BIGINT NOT NULL,
            expires_at BIGINT);
          CREATE INDEX message_keys_by_room ON message_keys (room_id);
          CREATE INDEX message_keys_by_expiry ON message_keys (expires_at)
            WHERE expires_at IS NOT NULL;
          CREATE INDEX rooms_by_retention ON rooms (id) WHERE retention_days IS NOT NULL;
          CREATE INDEX rooms_secret_deleted ON rooms (id)
            WHERE type = 3 AND deleted_at IS NOT NULL;
          """)),
    // Everyone whom somebody knows from a room.
    Migration(
      feature: "chat", number: 9, "CREATE INDEX room_acts_by_room ON room_acts (room_id, user_id)"),
    // On SQLite a document is found by its place in time (`SearchStore.remove`): each commit wrote a page of this index
    // for each room with new messages.
    Migration(
      feature: "chat", number: 10,
      SQL(sqlite: "DROP INDEX search_documents_by_place", postgres: "SELECT 1")),
    // Reports of messages. And a mark for everyone who has written somewhere, from before there were marks.
    Migration(
      feature: "chat", number: 11,
      SQL(
        sqlite: """
          INSERT INTO room_marks (user_id, room_id, seq, ordinal)
            SELECT DISTINCT sender, room_id, -1, 0 FROM entries WHERE type < 16
            ON CONFLICT DO NOTHING;
          CREATE TABLE reports (
            id INTEGER PRIMARY KEY AUTOINCREMENT, room_id INTEGER NOT NULL, seq INTEGER NOT NULL,
            reporter BLOB NOT NULL, reason TEXT NOT NULL, created_at INTEGER NOT NULL,
            closed_at INTEGER, closed_by BLOB) STRICT;
          CREATE UNIQUE INDEX reports_open ON reports (room_id, seq, reporter)
            WHERE closed_at IS NULL;
          """,
        postgres: """
          INSERT INTO room_marks (user_id, room_id, seq, ordinal)
            SELECT DISTINCT sender, room_id, -1, 0 FROM entries WHERE type < 16
            ON CONFLICT DO NOTHING;
          CREATE TABLE reports (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room_id BIGINT NOT NULL,
            seq BIGINT NOT NULL, reporter BYTEA NOT NULL, reason TEXT NOT NULL,
            created_at BIGINT NOT NULL, closed_at BIGINT, closed_by BYTEA);
          CREATE UNIQUE INDEX reports_open ON reports (room_id, seq, reporter)
            WHERE closed_at IS NULL;
          """)),
    // On SQLite the search index got a file of its own.
    Migration(
      feature: "chat", number: 12,
      SQL(
        sqlite: """
          DROP TABLE search_documents;
          DROP TABLE search_words;
          DROP TABLE search_heads;
          """,
        postgres: "SELECT 1")),
  ]
}
