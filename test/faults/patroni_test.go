//go:build linux

package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferry/internal/postgres/devcluster"
)

// patroni is a highly available Postgres: three nodes with synchronous
// replication, each looked after by Patroni, which keep the lease of the
// primary in etcd. haproxy leads to whichever has it.
type patroni struct {
	nodes   []*node
	address string // of haproxy
}

// node is one Postgres and its Patroni.
type node struct {
	*process
	data     string
	postgres string // address
	rest     string // address of Patroni's API
}

// nodeConfig is what Patroni's documentation calls its settings.
//
//   - Failover is decided within about a second where Postgres died and Patroni
//     did not (primary_start_timeout 0), else when the lease has run out (ttl,
//     which Patroni does not let below 20 s).
//   - max_connections leaves room for what is connected while connections that
//     were lost are still noticed.
//
// $1 name, $2 REST address, $3 etcd's address, $4 Postgres' address, $5 folder.
const nodeConfig = `
scope: faults
name: %[1]s
restapi: {listen: "%[2]s", connect_address: "%[2]s"}
etcd3: {hosts: "%[3]s"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 5
    primary_start_timeout: 0
    synchronous_mode: true
    maximum_lag_on_failover: 0
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 100, wal_log_hints: "on", dynamic_shared_memory_type: mmap, deadlock_timeout: 200ms}
  initdb: [encoding: UTF8, locale: C.UTF-8]
  pg_hba:
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication postgres 127.0.0.1/32 scram-sha-256
postgresql:
  listen: "%[4]s"
  connect_address: "%[4]s"
  data_dir: %[5]s/data
  pgpass: %[5]s/pgpass
  bin_dir: %[6]s
  authentication:
    superuser: {username: postgres, password: "%[7]s"}
    replication: {username: postgres, password: "%[7]s"}
  parameters: {unix_socket_directories: %[5]s}
  remove_data_directory_on_diverged_timelines: true
  remove_data_directory_on_rewind_failure: true
`

// newPatroni starts a cluster and returns once it has a primary and a
// synchronous standby.
func newPatroni(t *testing.T) *patroni {
	t.Helper()
	dir, err := os.MkdirTemp("", "ferry-failover-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := unprivileged(t, dir)
	etcd := startEtcd(t, dir, as)
	p := &patroni{}
	for i := range 3 {
		p.nodes = append(p.nodes, newNode(t, fmt.Sprint("node", i+1), dir, etcd, as))
	}
	p.address = newPrimaryProxy(t, p.nodes)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, _, err := p.primary(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if err := p.replicated(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// unprivileged gives the folder to the account that Postgres may run as, and
// returns how to become it: initdb refuses root.
func unprivileged(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		return as
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(account.Uid, 10, 32)
	gid, _ := strconv.ParseUint(account.Gid, 10, 32)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil { //nolint:gosec // 32 bits
		t.Fatal(err)
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as
}

// need finds a program.
func need(t *testing.T, name, debianPackage string) string {
	t.Helper()
	for _, folder := range []string{"", "/usr/sbin/", "/usr/bin/"} {
		if path, err := exec.LookPath(folder + name); err == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: on Debian, apt-get install %s", name, debianPackage)
	return ""
}

func startEtcd(t *testing.T, dir string, as *syscall.SysProcAttr) (address string) {
	t.Helper()
	address, peers := freeAddress(t), freeAddress(t)
	etcd := newProcess(t, "etcd", []string{"PATH=" + os.Getenv("PATH")}, need(t, "etcd", "etcd-server"),
		"--name=etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://"+address, "--advertise-client-urls=http://"+address,
		"--listen-peer-urls=http://"+peers, "--initial-advertise-peer-urls=http://"+peers,
		"--initial-cluster=etcd=http://"+peers)
	etcd.as = as
	if err := etcd.start(); err != nil {
		t.Fatal(err)
	}
	return address
}

func newNode(t *testing.T, name, dir, etcd string, as *syscall.SysProcAttr) *node {
	t.Helper()
	folder := filepath.Join(dir, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if as.Credential != nil {
		if err := os.Chown(folder, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	binaries, err := devcluster.Find()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{data: filepath.Join(folder, "data"), postgres: freeAddress(t), rest: freeAddress(t)}
	config := filepath.Join(folder, "patroni.yml")
	write(t, config, fmt.Sprintf(nodeConfig, name, n.rest, etcd, n.postgres, folder, binaries.Dir, password))
	n.process = newProcess(t, name, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}, need(t, "patroni", "patroni python3-etcd"), config)
	n.as = as
	t.Cleanup(n.leave)
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	return n
}

// killPostgres kills a node's Postgres alone: its Patroni sees it.
func (n *node) killPostgres() { _ = signalPostmaster(n.data, syscall.SIGKILL) }

// kill ends all of a node, as a machine does that loses its power.
func (n *node) kill() {
	_, _ = n.end(syscall.SIGKILL)
	n.killPostgres()
}

// leave ends a node and leaves no shared memory behind.
func (n *node) leave() {
	_, _ = n.end(syscall.SIGKILL)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for signalPostmaster(n.data, syscall.SIGQUIT) == nil && ctx.Err() == nil {
		pause(ctx, 100*time.Millisecond)
	}
}

// newPrimaryProxy leads to the primary alone, as Patroni's documentation has
// it.
func newPrimaryProxy(t *testing.T, nodes []*node) (address string) {
	t.Helper()
	address = freeAddress(t)
	var config strings.Builder
	fmt.Fprintf(&config, `
defaults
  mode tcp
  timeout connect 2s
  timeout client 30m
  timeout server 30m
listen primary
  bind %s
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
`, address)
	for _, n := range nodes {
		_, port, err := net.SplitHostPort(n.rest)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&config, "  server %s %s check port %s\n", n.name, n.postgres, port)
	}
	startHAProxy(t, "haproxy-postgres", config.String())
	return address
}

// primarySince is when a node's Postgres was started, if it is the primary.
func (n *node) primarySince() (started string) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + n.rest + "/primary") //nolint:noctx // it has a timeout
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var status struct {
		Started string `json:"postmaster_start_time"`
	}
	if response.StatusCode != http.StatusOK || json.NewDecoder(response.Body).Decode(&status) != nil {
		return ""
	}
	return status.Started
}

// primary waits for a primary that was started at another time than before: mostly
// on another node, but Patroni may start Postgres again where it was.
func (p *patroni) primary(ctx context.Context, before string) (n *node, started string, err error) {
	for {
		for _, n := range p.nodes {
			if started := n.primarySince(); started != "" && started != before {
				return n, started, nil
			}
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return nil, "", errors.New("there is no primary")
		}
	}
}

// replicated waits until two standbys stream, one of them synchronously: the
// primary can be lost then.
func (p *patroni) replicated(ctx context.Context) error {
	var last string
	for {
		for _, n := range p.nodes {
			var synchronous, streaming int
			if synchronous, streaming, last = n.standbys(); synchronous > 0 && streaming == len(p.nodes)-1 {
				return nil
			}
		}
		if pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("the cluster is not whole: %s", last)
		}
	}
}

// standbys counts those that a node's Patroni knows of.
func (n *node) standbys() (synchronous, streaming int, text string) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + n.rest + "/cluster") //nolint:noctx // it has a timeout
	if err != nil {
		return 0, 0, err.Error()
	}
	defer response.Body.Close()
	var cluster struct {
		Members []struct{ Name, Role, State string }
	}
	if err := json.NewDecoder(response.Body).Decode(&cluster); err != nil {
		return 0, 0, err.Error()
	}
	for _, m := range cluster.Members {
		if m.Role == "leader" || (m.State != "running" && m.State != "streaming") {
			continue
		}
		streaming++
		if m.Role == "sync_standby" {
			synchronous++
		}
	}
	return synchronous, streaming, fmt.Sprintf("%+v", cluster.Members)
}
