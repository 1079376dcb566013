package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"ferry/internal/config"
)

// runHealthcheck is the container's health check: the image holds no shell and
// no curl.
func runHealthcheck(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "healthcheck", "ask a running ferry whether it is alive",
		"It asks the address in FERRY_LISTEN, and exits with 0 if the answer is yes.\n")
	ready := flags.Bool("ready", false, "ask whether uploads can be taken, instead")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	cfg, err := config.Load(a.environ)
	if err != nil {
		return err
	}
	path := "/healthz"
	if *ready {
		path = "/readyz"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+dialable(cfg.Listen)+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", cfg.Listen, err)
	}
	// No proxy stands between a container and itself.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", cfg.Listen, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", path, response.Status)
	}
	_, err = fmt.Fprintln(a.stdout, "ok")
	return err
}

// dialable turns an address to listen on into one to connect to.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
