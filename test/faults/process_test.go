//go:build linux

package faults_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that is started again and again.
type process struct {
	name    string
	command []string
	environ []string
	as      *syscall.SysProcAttr
	log     string // path

	mu      sync.Mutex
	running *exec.Cmd
	ended   chan struct{}
}

// newProcess does not start it. Its log is shown if the test fails.
func newProcess(t *testing.T, name string, environ []string, command ...string) *process {
	t.Helper()
	p := &process{name: name, command: command, environ: environ, log: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		_, _ = p.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, p.tail())
		}
	})
	return p
}

// start does nothing where it runs.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return nil
	}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644) //nolint:gosec // not a secret
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(p.command[0], p.command[1:]...) //nolint:gosec,noctx // a test's own; ended by its id
	c.Env, c.Stdout, c.Stderr = p.environ, log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.as != nil {
		c.SysProcAttr = p.as
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.running, p.ended = c, make(chan struct{})
	go func(ended chan struct{}) {
		_ = c.Wait() // its state says how
		close(ended)
	}(p.ended)
	return nil
}

// end sends a signal and waits until the program has ended. It returns the exit
// code, -1 where a signal ended it.
func (p *process) end(signal syscall.Signal) (code int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0, nil
	}
	_ = p.running.Process.Signal(signal)          // fails if it has ended
	_ = p.running.Process.Signal(syscall.SIGCONT) // or it would wait for that first
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second):
		_ = p.running.Process.Kill()
		<-p.ended
		err = fmt.Errorf("%s did not end within 40 s of %s", p.name, signal)
	}
	code = p.running.ProcessState.ExitCode()
	p.running = nil
	return code, err
}

// signal does nothing where it does not run.
func (p *process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		_ = p.running.Process.Signal(signal) // fails if it has ended
	}
}

// memoryMiB is a field of the program's /proc status, such as VmHWM.
func (p *process) memoryMiB(t *testing.T, field string) float64 {
	t.Helper()
	p.mu.Lock()
	pid := p.running.Process.Pid
	p.mu.Unlock()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kib float64
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				t.Fatal(err)
			}
			return kib / 1024
		}
	}
	t.Fatalf("no %s in the status of %s", field, p.name)
	return 0
}

func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	lines = lines[max(0, len(lines)-12):]
	for i := range lines {
		lines[i] = lines[i][:min(len(lines[i]), 400)]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

var sqlState = regexp.MustCompile(`SQLSTATE (\w{5})`)

// sqlStates counts those in its log: what the faults came to.
func (p *process) sqlStates(t *testing.T, counts map[string]int) {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range sqlState.FindAllSubmatch(text, -1) {
		counts[string(match[1])]++
	}
}

// complaints are the lines of its log that no fault excuses.
func (p *process) complaints(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		for _, sign := range []string{"panic", "DATA RACE", "fatal error", "which is a bug"} {
			if strings.Contains(line, sign) {
				found = append(found, p.name+": "+line)
			}
		}
	}
	return found
}
