-- What globex starts with: runs once, when its database is first made.

CREATE TABLE plants (
    id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text    NOT NULL UNIQUE,
    city     text    NOT NULL,
    capacity integer NOT NULL CHECK (capacity > 0)
);

COMMENT ON COLUMN plants.capacity IS 'Units per day';

INSERT INTO plants (name, city, capacity) VALUES
    ('Riverside', 'Cypress Creek', 1200),
    ('Harbour',   'Shelbyville',    450),
    ('Hilltop',   'Springfield',    300);
