// Package migrations holds the versions of schema ferry, in order. Each is
// safe to apply while the version of ferry before it still serves.
package migrations

import "embed"

// FS holds the migrations, NNNNN_name.sql, for goose.
//
//go:embed *.sql
var FS embed.FS
