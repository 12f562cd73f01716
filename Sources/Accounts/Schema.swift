package import Database

/// The tables of accounts.
///
/// Rows whose changes other nodes must notice carry `changed_in`, a position in the database's own order of changes
/// (`ChangePosition`), set by triggers. On SQLite, which has one writer at a time, it is a counter; on Postgres it is
/// the transaction's id.
package enum AccountSchema {
  package static let migrations: [Migration] = [
    Migration(
      feature: "accounts", number: 1,
      SQL(
        sqlite: """
          CREATE TABLE users (
            id BLOB PRIMARY KEY, email TEXT NOT NULL, email_key TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL, password_hash TEXT NOT NULL, is_platform_admin INTEGER NOT NULL,
            settings TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;
          CREATE TABLE sessions (
            id BLOB PRIMARY KEY, user_id BLOB NOT NULL REFERENCES users (id),
            refresh_count INTEGER NOT NULL, ip TEXT NOT NULL, user_agent TEXT NOT NULL,
            data TEXT NOT NULL, created_at INTEGER NOT NULL, last_seen_at INTEGER NOT NULL,
            ended_at INTEGER) STRICT;
          CREATE INDEX sessions_by_user ON sessions (user_id);
          CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE ended_at IS NOT NULL;
          CREATE TABLE signing_keys (
            id TEXT PRIMARY KEY, seed BLOB NOT NULL, created_at INTEGER NOT NULL) STRICT;
          CREATE TABLE organizations (
            id BLOB PRIMARY KEY, name TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;
          CREATE TABLE memberships (
            organization_id BLOB NOT NULL REFERENCES organizations (id),
            user_id BLOB NOT NULL REFERENCES users (id), role TEXT NOT NULL,
            created_at INTEGER NOT NULL, PRIMARY KEY (organization_id, user_id)) STRICT;
          CREATE INDEX memberships_by_user ON memberships (user_id);
          """,
        postgres: """
          CREATE TABLE users (
            id BYTEA PRIMARY KEY, email TEXT NOT NULL, email_key TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL, password_hash TEXT NOT NULL, is_platform_admin BIGINT NOT NULL,
            settings TEXT NOT NULL, created_at BIGINT NOT NULL);
          CREATE TABLE sessions (
            id BYTEA PRIMARY KEY, user_id BYTEA NOT NULL REFERENCES users (id),
            refresh_count BIGINT NOT NULL, ip TEXT NOT NULL, user_agent TEXT NOT NULL,
            data TEXT NOT NULL, created_at BIGINT NOT NULL, last_seen_at BIGINT NOT NULL,
            ended_at BIGINT);
          CREATE INDEX sessions_by_user ON sessions (user_id);
          CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE ended_at IS NOT NULL;
          CREATE TABLE signing_keys (
            id TEXT PRIMARY KEY, seed BYTEA NOT NULL, created_at BIGINT NOT NULL);
          CREATE TABLE organizations (
            id BYTEA PRIMARY KEY, name TEXT NOT NULL, created_at BIGINT NOT NULL);
          CREATE TABLE memberships (
            organization_id BYTEA NOT NULL REFERENCES organizations (id),
            user_id BYTEA NOT NULL REFERENCES users (id), role TEXT NOT NULL,
            created_at BIGINT NOT NULL, PRIMARY KEY (organization_id, user_id));
          CREATE INDEX memberships_by_user ON memberships (user_id);
          """)),
    // Memberships with versions, and changes in the database's own order.
    Migration(
      feature: "accounts", number: 2,
      SQL(
        sqlite: """
          CREATE TABLE change_counter (
            id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL) STRICT;
          INSERT INTO change_counter (id, value) VALUES (1, 1);
          ALTER TABLE sessions ADD COLUMN changed_in INTEGER NOT NULL DEFAULT 0;
          CREATE INDEX sessions_by_change ON sessions (changed_in) WHERE changed_in > 0;
          CREATE TRIGGER sessions_ended AFTER UPDATE OF ended_at ON sessions BEGIN
            UPDATE change_counter SET value = value + 1;
            UPDATE sessions SET changed_in = (SELECT value FROM change_counter) WHERE id = NEW.id;
          END;
          CREATE TABLE teams (
            id BLOB PRIMARY KEY, organization_id BLOB REFERENCES organizations (id),
            created_at INTEGER NOT NULL, deleted_at INTEGER) STRICT;
          CREATE TABLE team_members (
            team_id BLOB NOT NULL REFERENCES teams (id),
            user_id BLOB NOT NULL REFERENCES users (id), role TEXT NOT NULL,
            created_at INTEGER NOT NULL, PRIMARY KEY (team_id, user_id)) STRICT;
          CREATE INDEX team_members_by_user ON team_members (user_id);
          CREATE TABLE affiliation_versions (
            user_id BLOB PRIMARY KEY, version INTEGER NOT NULL,
            changed_in INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
          CREATE INDEX affiliation_versions_by_change ON affiliation_versions (changed_in);
          CREATE TRIGGER affiliations_first AFTER INSERT ON affiliation_versions BEGIN
            UPDATE change_counter SET value = value + 1;
            UPDATE affiliation_versions SET changed_in = (SELECT value FROM change_counter)
              WHERE user_id = NEW.user_id;
          END;
          CREATE TRIGGER affiliations_changed AFTER UPDATE OF version ON affiliation_versions BEGIN
            UPDATE change_counter SET value = value + 1;
            UPDATE affiliation_versions SET changed_in = (SELECT value FROM change_counter)
              WHERE user_id = NEW.user_id;
          END;
          """,
        postgres: """
          ALTER TABLE sessions ADD COLUMN changed_in BIGINT NOT NULL DEFAULT 0;
          CREATE INDEX sessions_by_change ON sessions (changed_in) WHERE changed_in > 0;
          CREATE FUNCTION martlet_changed() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              NEW.changed_in := pg_current_xact_id()::text::bigint;
              RETURN NEW;
            END $$;
          CREATE TRIGGER sessions_ended BEFORE UPDATE OF ended_at ON sessions
            FOR EACH ROW EXECUTE FUNCTION martlet_changed();
          CREATE TABLE teams (
            id BYTEA PRIMARY KEY, organization_id BYTEA REFERENCES organizations (id),
            created_at BIGINT NOT NULL, deleted_at BIGINT);
          CREATE TABLE team_members (
            team_id BYTEA NOT NULL REFERENCES teams (id),
            user_id BYTEA NOT NULL REFERENCES users (id), role TEXT NOT NULL,
            created_at BIGINT NOT NULL, PRIMARY KEY (team_id, user_id));
          CREATE INDEX team_members_by_user ON team_members (user_id);
          CREATE TABLE affiliation_versions (
            user_id BYTEA PRIMARY KEY, version BIGINT NOT NULL,
            changed_in BIGINT NOT NULL DEFAULT 0);
          CREATE INDEX affiliation_versions_by_change ON affiliation_versions (changed_in);
          CREATE TRIGGER affiliations_changed BEFORE INSERT OR UPDATE OF version
            ON affiliation_versions FOR EACH ROW EXECUTE FUNCTION martlet_changed();
          """)),
    // Partial indexes of ids that are not version 7. This server makes none, so they are usually empty (`NameCheck`).
    Migration(
      feature: "accounts", number: 3,
      SQL(
        sqlite: """
          CREATE INDEX users_not_version_7 ON users (id)
            WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f';
          CREATE INDEX organizations_not_version_7 ON organizations (id)
            WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f';
          CREATE INDEX teams_not_version_7 ON teams (id)
            WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f';
          """,
        postgres: """
          CREATE INDEX users_not_version_7 ON users (id)
            WHERE substr(id, 7, 1) NOT BETWEEN '\\x70' AND '\\x7f';
          CREATE INDEX organizations_not_version_7 ON organizations (id)
            WHERE substr(id, 7, 1) NOT BETWEEN '\\x70' AND '\\x7f';
          CREATE INDEX teams_not_version_7 ON teams (id)
            WHERE substr(id, 7, 1) NOT BETWEEN '\\x70' AND '\\x7f';
          """)),
    // Suspended accounts.
    Migration(
      feature: "accounts", number: 4,
      SQL(
        sqlite: "ALTER TABLE users ADD COLUMN suspended_at INTEGER",
        postgres: "ALTER TABLE users ADD COLUMN suspended_at BIGINT")),
    // Teams with what they show, and invitations to them. `room_id` is the team's channel. `member_count` is changed
    // together with the rows that it counts, under the lock on the team's row.
    Migration(
      feature: "accounts", number: 5,
      SQL(
        sqlite: """
          ALTER TABLE teams ADD COLUMN name TEXT NOT NULL DEFAULT '';
          ALTER TABLE teams ADD COLUMN name_key TEXT NOT NULL DEFAULT '';
          ALTER TABLE teams ADD COLUMN icon TEXT;
          ALTER TABLE teams ADD COLUMN meta_tags TEXT NOT NULL DEFAULT '[]';
          ALTER TABLE teams ADD COLUMN is_active INTEGER NOT NULL DEFAULT 1;
          ALTER TABLE teams ADD COLUMN created_by BLOB;
          ALTER TABLE teams ADD COLUMN room_id INTEGER;
          ALTER TABLE teams ADD COLUMN member_count INTEGER NOT NULL DEFAULT 0;
          CREATE INDEX teams_by_organization ON teams (organization_id, id)
            WHERE organization_id IS NOT NULL;
          CREATE INDEX teams_by_creator ON teams (created_by) WHERE deleted_at IS NULL;
          CREATE INDEX team_members_in_order ON team_members (team_id, created_at, user_id);
          CREATE TABLE team_invitations (
            id BLOB PRIMARY KEY, team_id BLOB NOT NULL REFERENCES teams (id),
            user_id BLOB NOT NULL REFERENCES users (id), invited_by BLOB NOT NULL,
            created_at INTEGER NOT NULL) STRICT;
          CREATE UNIQUE INDEX team_invitations_by_user ON team_invitations (user_id, team_id);
          CREATE INDEX team_invitations_by_team ON team_invitations (team_id);
          """,
        postgres: """
          ALTER TABLE teams ADD COLUMN name TEXT NOT NULL DEFAULT '',
            ADD COLUMN name_key TEXT NOT NULL DEFAULT '', ADD COLUMN icon TEXT,
            ADD COLUMN meta_tags TEXT NOT NULL DEFAULT '[]',
            ADD COLUMN is_active BIGINT NOT NULL DEFAULT 1, ADD COLUMN created_by BYTEA,
            ADD COLUMN room_id BIGINT, ADD COLUMN member_count BIGINT NOT NULL DEFAULT 0;
          CREATE INDEX teams_by_organization ON teams (organization_id, id)
            WHERE organization_id IS NOT NULL;
          CREATE INDEX teams_by_creator ON teams (created_by) WHERE deleted_at IS NULL;
          CREATE INDEX team_members_in_order ON team_members (team_id, created_at, user_id);
          CREATE TABLE team_invitations (
            id BYTEA PRIMARY KEY, team_id BYTEA NOT NULL REFERENCES teams (id),
            user_id BYTEA NOT NULL REFERENCES users (id), invited_by BYTEA NOT NULL,
            created_at BIGINT NOT NULL);
          CREATE UNIQUE INDEX team_invitations_by_user ON team_invitations (user_id, team_id);
          CREATE INDEX team_invitations_by_team ON team_invitations (team_id);
          """)),
    // Who blocks whom.
    Migration(
      feature: "accounts", number: 6,
      SQL(
        sqlite: """
          CREATE TABLE blocks (
            user_id BLOB NOT NULL REFERENCES users (id),
            blocked_id BLOB NOT NULL REFERENCES users (id), created_at INTEGER NOT NULL,
            PRIMARY KEY (user_id, blocked_id)) STRICT, WITHOUT ROWID;
          """,
        postgres: """
          CREATE TABLE blocks (
            user_id BYTEA NOT NULL REFERENCES users (id),
            blocked_id BYTEA NOT NULL REFERENCES users (id), created_at BIGINT NOT NULL,
            PRIMARY KEY (user_id, blocked_id));
          """)),
    // Why accounts are suspended, erased accounts, and what administrators did. The row of an erased account remains, so
    // that its id stays known as one of this server (`NameCheck`). `erasures` are the erasures of which something is left
    // to do (`AccountErasure`).
    Migration(
      feature: "accounts", number: 7,
      SQL(
        sqlite: """
          ALTER TABLE users ADD COLUMN suspension_reason TEXT;
          ALTER TABLE users ADD COLUMN erased_at INTEGER;
          CREATE INDEX users_by_creation ON users (created_at, id);
          CREATE TABLE audit (
            id INTEGER PRIMARY KEY AUTOINCREMENT, actor_id BLOB, action TEXT NOT NULL,
            target_type TEXT NOT NULL, target_id TEXT NOT NULL, ip TEXT NOT NULL,
            request_id TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;
          CREATE TABLE erasures (
            user_id BLOB PRIMARY KEY, deletes_messages INTEGER NOT NULL,
            requested_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
          """,
        postgres: """
          ALTER TABLE users ADD COLUMN suspension_reason TEXT, ADD COLUMN erased_at BIGINT;
          CREATE INDEX users_by_creation ON users (created_at, id);
          CREATE TABLE audit (
            id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, actor_id BYTEA,
            action TEXT NOT NULL, target_type TEXT NOT NULL, target_id TEXT NOT NULL,
            ip TEXT NOT NULL, request_id TEXT NOT NULL, created_at BIGINT NOT NULL);
          CREATE TABLE erasures (
            user_id BYTEA PRIMARY KEY, deletes_messages BIGINT NOT NULL,
            requested_at BIGINT NOT NULL);
          """)),
  ]
}
