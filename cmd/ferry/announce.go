package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/postgres/devcluster"
)

// announcement is what `ferry dev` says once it answers requests: as text to
// paste from, or as one line of JSON for scripts.
type announcement struct {
	URL            string          `json:"url"`
	DatabaseURL    string          `json:"database_url"`    // as the owner
	ReplicationURL string          `json:"replication_url"` // for the PowerSync Service
	PowerSyncURL   string          `json:"powersync_url"`
	Audience       []string        `json:"audience"`
	KID            string          `json:"kid"`
	Secret         string          `json:"secret"` // base64url; empty where the key is not a symmetric one
	Users          []announcedUser `json:"users"`

	dir        string
	clientAuth string // YAML
}

type announcedUser struct {
	devUser
	Session string `json:"session"`
}

func (d *devFolder) announce(w io.Writer, asJSON bool, cfg *config.Config, cluster *devcluster.Cluster, url string) error {
	keys, err := cfg.Token.KeySet()
	if err != nil {
		return fmt.Errorf("token keys: %w", err)
	}
	a := announcement{
		URL:            url,
		DatabaseURL:    cluster.URL(devOwner, d.OwnerPassword, devDatabase),
		ReplicationURL: cluster.URL(devPowerSync, d.PowerSyncPassword, devDatabase),
		PowerSyncURL:   cfg.PowerSyncURL,
		Audience:       cfg.Token.Audience,
		KID:            keys.ActiveID(),
		dir:            d.dir,
		clientAuth:     clientAuthYAML(keys.ServiceKeys(), cfg.Token.Audience),
	}
	for _, jwk := range keys.ServiceKeys() {
		if members := jwkMembers(jwk); members["kid"] == a.KID {
			a.Secret = members["k"]
		}
	}
	for _, u := range d.Users {
		token, err := d.session(u)
		if err != nil {
			return fmt.Errorf("sign in %s: %w", u.Name, err)
		}
		a.Users = append(a.Users, announcedUser{u, token})
	}
	if asJSON {
		return json.NewEncoder(w).Encode(a)
	}
	_, err = io.WriteString(w, a.text())
	return err
}

// text is to paste from: whatever stands alone on a line is complete.
func (a *announcement) text() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	say("\nferry answers at %s until you press Ctrl-C.\n"+
		"Its keys, users and data stay in %s for the next time.\n\n", a.URL, a.dir)
	say("Demo users, each with a session for %d days:\n\n", sessionTTL/(24*time.Hour))
	for _, u := range a.Users {
		say("%s, user id %s\n%s\n\n", u.Name, u.ID, u.Session)
	}
	first := a.Users[0]
	say("Fetch a sync token as %s, like fetchCredentials() in an app:\n\n"+
		"curl -s -H 'Authorization: Bearer %s' %s/token\n\n", first.Name, first.Session, a.URL)
	say("Upload a list as %s, like uploadData() in an app; the second time, it is a duplicate:\n\n"+
		"curl -s -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' %s/upload \\\n"+
		"  -d '{\"client_id\": \"terminal\", \"crud\": [{\"op_id\": 1, \"tx_id\": 1, \"op\": \"PUT\", \"type\": \"lists\", "+
		"\"id\": \"%s\", \"data\": {\"name\": \"From the terminal\", \"owner_id\": \"%s\"}}]}'\n\n",
		first.Name, first.Session, a.URL, newUUID(), first.ID)
	say("Look at the database, as its owner:\n\npsql '%s'\n\n", a.DatabaseURL)
	say("For a PowerSync Service on this machine, in its configuration file (one in a container\n"+
		"reaches this Postgres with --network host; the publication is powersync):\n\n%s%s\n",
		replicationYAML(a.ReplicationURL), a.clientAuth)
	if a.Secret == "" {
		return b.String()
	}
	say("In PowerSync Cloud's dashboard the same key goes under Client Auth, HS256 authentication tokens.\n"+
		"The KID, the shared secret (which is base64url already: do not encode it again), and what to add\n"+
		"as a JWT audience:\n\n%s\n%s\n%s\n\n", a.KID, a.Secret, strings.Join(a.Audience, "\n"))
	return b.String()
}

// replicationYAML is the part of a self-hosted PowerSync Service's
// configuration that says where it replicates from.
//
// Source: https://docs.powersync.com/configuration/powersync-service/self-hosted-instances
func replicationYAML(url string) string {
	return fmt.Sprintf(`replication:
  connections:
    - type: postgresql
      uri: %s
      sslmode: disable
`, yamlString(url))
}
