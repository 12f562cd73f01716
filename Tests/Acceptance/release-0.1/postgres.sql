SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.contents (
    id bytea NOT NULL,
    data text NOT NULL
);
CREATE TABLE public.entries (
    room_id bigint NOT NULL,
    seq bigint NOT NULL,
    id bytea NOT NULL,
    type bigint NOT NULL,
    sender bytea NOT NULL,
    ts bigint NOT NULL,
    client_id text,
    digest bytea
);
CREATE TABLE public.instance (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.memberships (
    organization_id bytea NOT NULL,
    user_id bytea NOT NULL,
    role text NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE public.organizations (
    id bytea NOT NULL,
    name text NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE public.room_heads (
    room_id bigint NOT NULL,
    last_seq bigint NOT NULL,
    last_ts bigint NOT NULL,
    access_version bigint NOT NULL,
    access_changed_at bigint NOT NULL
);
CREATE TABLE public.room_rules (
    room_id bigint NOT NULL,
    subject bytea NOT NULL,
    permissions bigint NOT NULL,
    level bigint NOT NULL,
    accepted bigint NOT NULL
);
CREATE TABLE public.rooms (
    id bigint NOT NULL,
    type bigint NOT NULL,
    name text NOT NULL,
    level_admin bigint NOT NULL,
    owner_user bytea NOT NULL,
    owner_entity bytea,
    by_invitation bigint NOT NULL,
    created_at bigint NOT NULL,
    deleted_at bigint
);
ALTER TABLE public.rooms ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.rooms_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.schema_migrations (
    feature text NOT NULL,
    number bigint NOT NULL,
    checksum bigint NOT NULL,
    applied_at bigint NOT NULL
);
CREATE TABLE public.sessions (
    id bytea NOT NULL,
    user_id bytea NOT NULL,
    refresh_count bigint NOT NULL,
    ip text NOT NULL,
    user_agent text NOT NULL,
    data text NOT NULL,
    created_at bigint NOT NULL,
    last_seen_at bigint NOT NULL,
    ended_at bigint
);
CREATE TABLE public.signing_keys (
    id text NOT NULL,
    seed bytea NOT NULL,
    created_at bigint NOT NULL
);
CREATE TABLE public.users (
    id bytea NOT NULL,
    email text NOT NULL,
    email_key text NOT NULL,
    name text NOT NULL,
    password_hash text NOT NULL,
    is_platform_admin bigint NOT NULL,
    settings text NOT NULL,
    created_at bigint NOT NULL
);
INSERT INTO public.contents VALUES ('\x01a1fea2de3571ec8c00d79eaea08f1f', 'message 1 é世');
INSERT INTO public.contents VALUES ('\x01a1fea2de467b88b1433109cc0f4bbd', 'message 2 é世');
INSERT INTO public.contents VALUES ('\x01a1fea2de487d689e8c770939e1ee95', 'message 3 é世');
INSERT INTO public.contents VALUES ('\x01a1fea2de4b7f198bb969f3eaad4ff6', 'message 4 é世');
INSERT INTO public.contents VALUES ('\x01a1fea2de4c7596970a7f4871b7d6e2', 'message 5 é世');
INSERT INTO public.entries VALUES (1, 1, '\x01a1fea2de3571ec8c00d79eaea08f1f', 0, '\x01a1fea2dd7170cd82228aeec87abb33', 1795273449022, 'key-1', '\xd751655e9a13f68aadad5fdc34343269');
INSERT INTO public.entries VALUES (1, 2, '\x01a1fea2de467b88b1433109cc0f4bbd', 0, '\x01a1fea2dd7170cd82228aeec87abb33', 1795273449030, NULL, NULL);
INSERT INTO public.entries VALUES (1, 3, '\x01a1fea2de487d689e8c770939e1ee95', 0, '\x01a1fea2dd7170cd82228aeec87abb33', 1795273449032, 'key-3', '\xe6dc41355cd68d3b3a23891bd1e0895c');
INSERT INTO public.entries VALUES (1, 4, '\x01a1fea2de4b7f198bb969f3eaad4ff6', 0, '\x01a1fea2dd7170cd82228aeec87abb33', 1795273449035, NULL, NULL);
INSERT INTO public.entries VALUES (1, 5, '\x01a1fea2de4c7596970a7f4871b7d6e2', 0, '\x01a1fea2dd7170cd82228aeec87abb33', 1795273449036, 'key-5', '\x742513b8925219241cb527675f79eb9b');
INSERT INTO public.instance VALUES ('epoch', 'a3LjxPIhI6gQ');
INSERT INTO public.room_heads VALUES (2, 0, 0, 2, 1795273448989);
INSERT INTO public.room_heads VALUES (3, 0, 0, 2, 1795273449001);
INSERT INTO public.room_heads VALUES (1, 5, 1795273449036, 3, 1795273448986);
INSERT INTO public.room_rules VALUES (1, '\x01a1fea2dd7170cd82228aeec87abb33', 11, 100, 1);
INSERT INTO public.room_rules VALUES (2, '\x01a1fea2dd7170cd82228aeec87abb33', 11, 100, 1);
INSERT INTO public.room_rules VALUES (1, '\x01a1fea2dda374358874068b60ec6493', 3, 3, 1);
INSERT INTO public.room_rules VALUES (1, '\x01a1fea2ddd9736397c329efe17e2528', 4, 3, 1);
INSERT INTO public.room_rules VALUES (2, '\x01a1fea2dda374358874068b60ec6493', 1, 3, 0);
INSERT INTO public.rooms OVERRIDING SYSTEM VALUE VALUES (1, 0, 'old room', 500, '\x01a1fea2dd7170cd82228aeec87abb33', NULL, 0, 1795273448971, NULL);
INSERT INTO public.rooms OVERRIDING SYSTEM VALUE VALUES (2, 0, 'by invitation', 500, '\x01a1fea2dd7170cd82228aeec87abb33', NULL, 1, 1795273448977, NULL);
INSERT INTO public.rooms OVERRIDING SYSTEM VALUE VALUES (3, 0, 'gone', 500, '\x01a1fea2dd7170cd82228aeec87abb33', NULL, 0, 1795273448981, 1795273449000);
INSERT INTO public.schema_migrations VALUES ('accounts', 1, -666232327126818019, 1795273448732);
INSERT INTO public.schema_migrations VALUES ('chat', 1, -1484296838613087642, 1795273448742);
INSERT INTO public.sessions VALUES ('\x01a1fea2dd7173fc81f50fbad188ffca', '\x01a1fea2dd7170cd82228aeec87abb33', 0, '127.0.0.1', 'python-httpx/0.28.1', '{"device":"old"}', 1795273448818, 1795273448818, NULL);
INSERT INTO public.sessions VALUES ('\x01a1fea2dda375f6ab4b1909fcbd45e6', '\x01a1fea2dda374358874068b60ec6493', 0, '127.0.0.1', 'python-httpx/0.28.1', '{"device":"old"}', 1795273448868, 1795273448868, NULL);
INSERT INTO public.sessions VALUES ('\x01a1fea2ddd97c57a68152c34a738553', '\x01a1fea2ddd9736397c329efe17e2528', 0, '127.0.0.1', 'python-httpx/0.28.1', '{"device":"old"}', 1795273448921, 1795273448921, 1795273449088);
INSERT INTO public.signing_keys VALUES ('iZKemJWA', '\xe7d3dbd66bb08f0b5cd8f23e228921e2005c3a29fab4c1e6b028c315eeba5fad', 1795273448748);
INSERT INTO public.users VALUES ('\x01a1fea2dda374358874068b60ec6493', 'bob@example.org', 'bob@example.org', 'bob', '$argon2id$v=19$m=19456,t=2,p=1$ne+5rfkyI6oSInmtnA/eKA$R1T1tFJqFg0R1Uk9zr4RCAbj5Yf2/wiBK21I/S+27II', 0, '{}', 1795273448867);
INSERT INTO public.users VALUES ('\x01a1fea2ddd9736397c329efe17e2528', 'eve@example.org', 'eve@example.org', 'eve', '$argon2id$v=19$m=19456,t=2,p=1$saXTm7gqrzPu675WK1Kdeg$rISpTAjUj3zeXvYFZZ7BGniZWwJZoiKuPs1Jmg4zPtk', 0, '{}', 1795273448921);
INSERT INTO public.users VALUES ('\x01a1fea2dd7170cd82228aeec87abb33', 'ada@example.org', 'ada@example.org', 'ada', '$argon2id$v=19$m=19456,t=2,p=1$pB6oJO8FL5+PTyierHVjEQ$LvTkvPpBe8Zc/KiDwtQLeJzMZilhFSJW06OWJjc0exU', 0, '{"theme":"dark"}', 1795273448817);
SELECT pg_catalog.setval('public.rooms_id_seq', 3, true);
ALTER TABLE ONLY public.contents
    ADD CONSTRAINT contents_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.entries
    ADD CONSTRAINT entries_pkey PRIMARY KEY (room_id, seq);
ALTER TABLE ONLY public.instance
    ADD CONSTRAINT instance_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.memberships
    ADD CONSTRAINT memberships_pkey PRIMARY KEY (organization_id, user_id);
ALTER TABLE ONLY public.organizations
    ADD CONSTRAINT organizations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.room_heads
    ADD CONSTRAINT room_heads_pkey PRIMARY KEY (room_id);
ALTER TABLE ONLY public.room_rules
    ADD CONSTRAINT room_rules_pkey PRIMARY KEY (room_id, subject);
ALTER TABLE ONLY public.rooms
    ADD CONSTRAINT rooms_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (feature, number);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_email_key_key UNIQUE (email_key);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX entries_by_client_id ON public.entries USING btree (room_id, sender, client_id) WHERE (client_id IS NOT NULL);
CREATE UNIQUE INDEX entries_by_id ON public.entries USING btree (id);
CREATE INDEX memberships_by_user ON public.memberships USING btree (user_id);
CREATE INDEX room_heads_by_change ON public.room_heads USING btree (access_changed_at);
CREATE INDEX room_rules_by_subject ON public.room_rules USING btree (subject, room_id);
CREATE INDEX sessions_by_end ON public.sessions USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE INDEX sessions_by_user ON public.sessions USING btree (user_id);
ALTER TABLE ONLY public.memberships
    ADD CONSTRAINT memberships_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES public.organizations(id);
ALTER TABLE ONLY public.memberships
    ADD CONSTRAINT memberships_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);
