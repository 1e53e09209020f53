CREATE SCHEMA catalog;

CREATE TABLE catalog.catalogs (
    catalog_id text        COLLATE "C" PRIMARY KEY,
    name       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The version of an item is that of its stream head, outbox.streams; it is kept in one place.
CREATE TABLE catalog.items (
    catalog_id text        COLLATE "C" NOT NULL REFERENCES catalog.catalogs,
    item_id    text        COLLATE "C" NOT NULL,
    name       text        NOT NULL,
    text       text        NOT NULL,
    attributes jsonb       NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (catalog_id, item_id)
);
