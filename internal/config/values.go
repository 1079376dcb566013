package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const databaseURLForm = "postgres://user:password@host:5432/database"

// databaseURL is what pgx takes: a URL, or keywords and values.
type databaseURL string

func (u *databaseURL) UnmarshalText(text []byte) error {
	if !isPostgresURL(string(text)) {
		return errors.New("not a Postgres URL; expected " + databaseURLForm + ", with every / @ : % ? # in the password percent-encoded")
	}
	*u = databaseURL(text)
	return nil
}

// isPostgresURL finds the mistakes that pgx would report along with parts of
// the URL. Like libpq it allows several hosts.
func isPostgresURL(text string) bool {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return false
	}
	rest, ok := strings.CutPrefix(text, "postgres://")
	if !ok {
		rest, ok = strings.CutPrefix(text, "postgresql://")
	}
	if !ok {
		return strings.Contains(text, "=") && !strings.Contains(text, "://")
	}
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		if _, err := url.PathUnescape(rest[:i]); err != nil {
			return false
		}
		rest = rest[i+1:]
	}
	hosts, _, _ := strings.Cut(rest, "/")
	hosts, _, _ = strings.Cut(hosts, "?")
	return !slices.ContainsFunc(strings.Split(hosts, ","), func(host string) bool {
		address := host[strings.LastIndexByte(host, ']')+1:]
		_, port, hasPort := strings.Cut(address, ":")
		return strings.Contains(host, "@") || hasPort && port != "" && !isPort(port)
	})
}

// listenAddress is a host:port to listen on; port 0 is any free port.
type listenAddress string

func (a *listenAddress) UnmarshalText(text []byte) error {
	_, port, err := net.SplitHostPort(string(text))
	if err != nil || !isPort(port) {
		return errors.New("expected host:port or :port with a port from 0 to 65535, such as :6060 or 127.0.0.1:6060")
	}
	*a = listenAddress(text)
	return nil
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// origins is web origins as browsers send them (RFC 6454 section 6.2).
type origins []string

func (o *origins) UnmarshalText(text []byte) error {
	list, err := splitList(string(text))
	if err != nil {
		return err
	}
	if slices.Equal(list, []string{"*"}) {
		*o = list
		return nil
	}
	for i, entry := range list {
		u, err := url.Parse(entry)
		if err != nil || u.Host == "" || strings.Contains(u.Host, "*") || !strings.EqualFold(entry, u.Scheme+"://"+u.Host) {
			return fmt.Errorf("entry %d is not an origin; expected scheme://host or scheme://host:port without a slash at the end, such as https://app.example.com, or * alone", i+1)
		}
		*o = append(*o, strings.ToLower(entry))
	}
	return nil
}

// webURL is an http or https URL without credentials, query or fragment.
type webURL string

func (w *webURL) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
		u.User != nil || strings.ContainsAny(string(text), "?#") {
		return errors.New("expected an http or https URL without user, query or fragment, such as https://powersync.example.com")
	}
	*w = webURL(text)
	return nil
}

// word is a name, an id or an issuer: printable, without spaces.
type word string

func (w *word) UnmarshalText(text []byte) error {
	if !isWord(string(text)) {
		return errors.New("expected text without spaces or control characters")
	}
	*w = word(text)
	return nil
}

func isWord(text string) bool {
	return text != "" && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// audiences is a comma list of `aud` values, trailing slashes still there.
type audiences []string

func (a *audiences) UnmarshalText(text []byte) error {
	list, err := splitList(string(text))
	if err != nil {
		return err
	}
	for i, entry := range list {
		if !isWord(entry) || strings.Trim(entry, "/") == "" {
			return fmt.Errorf("entry %d is no audience; expected a comma list of names or URLs without spaces, such as https://powersync.example.com", i+1)
		}
	}
	*a = list
	return nil
}

// lifetime is how long a sync token is valid. The PowerSync Service refuses
// more than 24 hours (PSYNC_S2104).
type lifetime time.Duration

func (l *lifetime) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < time.Minute || d > 24*time.Hour || d%time.Second != 0 {
		return errors.New("expected a duration from 60s to 24h in whole seconds, such as 1h or 90m")
	}
	*l = lifetime(d)
	return nil
}

// sessionTime is how long a session of an account may last, which may be in
// days as well.
type sessionTime time.Duration

func (s *sessionTime) UnmarshalText(text []byte) error {
	const day = 24 * time.Hour
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * day
	}
	if err != nil || d < 5*time.Minute || d > 3650*day || d%time.Second != 0 {
		return errors.New("expected a duration from 5m to 3650d in whole seconds, such as 30m, 12h or 90d")
	}
	*s = sessionTime(d)
	return nil
}

// onOff is a switch.
type onOff bool

func (o *onOff) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true", "1":
		*o = true
	case "false", "0":
		*o = false
	default:
		return errors.New("expected true or false")
	}
	return nil
}

// byteSize is a number of bytes, 1 KiB to 1 GiB.
type byteSize int64

func (b *byteSize) UnmarshalText(text []byte) error {
	digits, unit := strings.TrimRight(string(text), "KMGiB"), int64(1)
	switch strings.TrimPrefix(string(text), digits) {
	case "":
	case "KiB":
		unit = 1 << 10
	case "MiB":
		unit = 1 << 20
	case "GiB":
		unit = 1 << 30
	default:
		unit = math.MaxInt64
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > (1<<30)/unit || n*unit < 1<<10 {
		return errors.New("expected a size from 1KiB to 1GiB, such as 32MiB or 33554432")
	}
	*b = byteSize(n * unit)
	return nil
}

// operations is a number of operations, 1 to a million.
type operations int

func (o *operations) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > 1_000_000 {
		return errors.New("expected a number from 1 to 1000000")
	}
	*o = operations(n)
	return nil
}

// pool is PoolSession or PoolTransaction.
type pool string

func (p *pool) UnmarshalText(text []byte) error {
	if string(text) != PoolSession && string(text) != PoolTransaction {
		return errors.New("expected " + PoolSession + " or " + PoolTransaction)
	}
	*p = pool(text)
	return nil
}

// splitList cuts a comma list and the spaces around its entries.
func splitList(text string) ([]string, error) {
	list := strings.Split(text, ",")
	for i, entry := range list {
		if list[i] = strings.TrimSpace(entry); list[i] == "" {
			return nil, fmt.Errorf("entry %d of the comma list is empty", i+1)
		}
	}
	return list, nil
}
