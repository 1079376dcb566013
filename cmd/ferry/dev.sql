-- PowerSync's stock demo tables, as its to-do list demos create them, with
-- row-level security. Each statement leaves alone what is there.

CREATE TABLE IF NOT EXISTS public.lists (
    id         uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    name       text        NOT NULL,
    owner_id   uuid        NOT NULL DEFAULT nullif(current_setting('app.user_id', true), '')::uuid
);

CREATE TABLE IF NOT EXISTS public.todos (
    id           uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    created_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    description  text        NOT NULL,
    completed    boolean     NOT NULL DEFAULT false,
    created_by   uuid,
    completed_by uuid,
    list_id      uuid        NOT NULL REFERENCES public.lists (id) ON DELETE CASCADE,
    photo_id     uuid
);

CREATE INDEX IF NOT EXISTS lists_owner_id ON public.lists (owner_id);
CREATE INDEX IF NOT EXISTS todos_list_id ON public.todos (list_id);

ALTER TABLE public.lists ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.todos ENABLE ROW LEVEL SECURITY;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'public' AND tablename = 'lists' AND policyname = 'owned lists') THEN
        CREATE POLICY "owned lists" ON public.lists FOR ALL TO authenticated
        USING (owner_id = (SELECT nullif(current_setting('app.user_id', true), '')::uuid));
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'public' AND tablename = 'todos' AND policyname = 'todos in owned lists') THEN
        CREATE POLICY "todos in owned lists" ON public.todos FOR ALL TO authenticated
        USING (list_id IN (SELECT id FROM public.lists));
    END IF;
    -- The demo mode has no sessions, so that nobody's rows are protected.
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'public' AND tablename = 'lists' AND policyname = 'demo mode') THEN
        CREATE POLICY "demo mode" ON public.lists FOR ALL TO ferry_demo USING (true);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = 'public' AND tablename = 'todos' AND policyname = 'demo mode') THEN
        CREATE POLICY "demo mode" ON public.todos FOR ALL TO ferry_demo USING (true);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'powersync') THEN
        CREATE PUBLICATION powersync FOR TABLE public.lists, public.todos;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA public TO authenticated, ferry_demo;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.lists, public.todos TO authenticated, ferry_demo;
GRANT USAGE ON SCHEMA public TO powersync_role;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO powersync_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO powersync_role;
