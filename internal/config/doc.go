// Package config reads ferry's environment variables, once, into a Config
// whose values are checked and ready to use.
//
// It owns the list of variables, the rules for each and the rules between
// them. It reads no environment by itself: the caller hands it over. Of files
// it opens only those that a NAME_FILE variable names. No value of a variable
// ever appears in one of its errors, secret or not: a secret may have been
// given to the wrong variable. Of a key set, only the ids of its keys do.
//
// It imports internal/tokens, to say what is wrong with a key set together with
// everything else that is wrong.
//
// Only cmd/ferry imports it; everything else is handed values.
package config
