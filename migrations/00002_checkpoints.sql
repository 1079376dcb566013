-- +goose Up

-- Write checkpoints, for apps that use PowerSync's custom ones. The PowerSync
-- Service replicates this table and tells the client how far it has come.
CREATE TABLE ferry.checkpoints (
    user_id    text   NOT NULL,
    client_id  text   NOT NULL,
    checkpoint bigint NOT NULL, -- never falls
    PRIMARY KEY (user_id, client_id)
) WITH (fillfactor = 60); -- room for HOT updates: a row changes with every upload
CREATE TRIGGER limit_clients AFTER INSERT ON ferry.checkpoints FOR EACH ROW EXECUTE FUNCTION ferry.limit_clients();

-- +goose Down
DROP TABLE ferry.checkpoints;
