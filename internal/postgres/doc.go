// Package postgres holds everything that only Postgres needs: the connection
// pool, the catalog of the app's tables, value conversion, SQL text, the
// meaning of SQLSTATEs, schema ferry and its migrations, the store that applies
// uploads exactly once, and the app's function for the claims of sync tokens.
//
// It imports internal/uploads for what an upload is, internal/tokens for what
// it gives tokens, and internal/fault for errors; it knows nothing of HTTP.
package postgres
