// Package postgres holds everything that only Postgres needs: the connection
// pool, the catalog of the app's tables, value conversion, SQL text, the
// meaning of SQLSTATEs, schema ferry and its migrations, and the store that
// applies uploads exactly once.
//
// It imports internal/uploads for what an upload is, and internal/fault for
// errors; it knows nothing of HTTP.
package postgres
