package identity

import (
	_ "embed"
	"strings"
)

// commonPasswords has a line for each of the most common passwords that
// CheckPassword would take but for this list, in lower case, and a heading in
// front of them. commonpasswords.md says where they are from.
//
//go:embed commonpasswords.txt
var commonPasswords string

// isCommonPassword is whether a normalised password in lower case is one of
// those that are guessed first (OWASP ASVS 2.1.7; NIST SP 800-63B, section
// 5.1.1.2). Reading through the list takes less than a hundredth of the time of
// the hash that comes next.
func isCommonPassword(password string) bool {
	return strings.Contains(commonPasswords, "\n"+password+"\n")
}
