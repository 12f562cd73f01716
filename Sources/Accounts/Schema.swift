package import Database

/// The tables of accounts.
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
          """))
  ]
}
