package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"syscall"
	"time"

	"ferry/internal/config"
	"ferry/internal/httpapi"
	"ferry/internal/postgres"
	"ferry/internal/tokens"
)

func runServe(ctx context.Context, a *app, args []string) error {
	flags := newFlags(a, "serve", "serve the API, in front of the app's Postgres", config.Usage())
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	cfg, err := config.LoadServe(a.environ)
	if err != nil {
		return err
	}
	out := newLogWriter(a.stderr)
	defer out.Close()
	log := slog.New(slog.NewJSONHandler(out, nil))
	return serve(ctx, cfg, servingOptions{log: log, allowOrigin: originsOf(cfg)})
}

// servingOptions are what `serve` and `dev` do differently.
type servingOptions struct {
	log         *slog.Logger
	allowOrigin func(origin string) bool
	// demo is nil but in `ferry dev`.
	demo *demo
	// listening is called once requests are answered, with the API's address.
	listening func(address string) error
}

// originsOf allows the configured web origins.
func originsOf(cfg *config.Config) func(string) bool {
	return func(origin string) bool {
		return slices.Contains(cfg.CORSOrigins, "*") || slices.Contains(cfg.CORSOrigins, origin)
	}
}

// serve serves the API until ctx ends, and then finishes what it has begun.
func serve(ctx context.Context, cfg *config.Config, o servingOptions) error {
	defer collectSeldom()()
	for _, warning := range cfg.Warnings {
		o.log.Warn(warning)
	}
	store, err := postgres.Open(ctx, storeOptions(cfg, o.log))
	if err != nil {
		return err
	}
	defer store.Close()
	if err := checkStart(ctx, store, cfg.Token.ClaimsFunction, o.log); err != nil {
		return err
	}
	api, err := newAPI(cfg, store, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	for _, run := range api.background {
		background.Go(func() { run(ctx) })
	}
	if o.demo != nil {
		demoStore, err := o.demo.open(ctx, cfg, o.log)
		if err != nil {
			return err
		}
		defer demoStore.Close()
		api.Demo = &httpapi.Demo{UserID: o.demo.userID, Store: demoStore}
	}
	return listenAndServe(ctx, cfg, httpapi.New(api.Options), o)
}

func storeOptions(cfg *config.Config, log *slog.Logger) postgres.Options {
	return postgres.Options{
		URL:              cfg.Database.URL.Reveal(),
		TransactionPool:  cfg.Database.Pool == config.PoolTransaction,
		Role:             cfg.Upload.Role,
		Schemas:          cfg.Upload.Schemas,
		Tables:           cfg.Upload.Tables,
		WriteCheckpoints: cfg.Upload.WriteCheckpoints,
		Log:              log,
		Now:              time.Now,
	}
}

// checkStart refuses to serve with an upload role that could get around the
// app's policies. A database that is away only means "not ready" for now, and a
// function for claims that cannot be called stops tokens only.
func checkStart(ctx context.Context, store *postgres.Store, claimsFunction []string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := store.Ready(ctx)
	if unsafe, ok := errors.AsType[*postgres.UnsafeRoleError](err); ok {
		return unsafe
	}
	if err != nil {
		log.Warn("uploads cannot be taken yet; ferry doctor says what to do", slog.Any("error", err))
	}
	if claimsFunction != nil && err == nil {
		if err := store.ClaimsFunction(claimsFunction...).Check(ctx); err != nil {
			log.Warn("tokens cannot be issued (FERRY_TOKEN_CLAIMS_FUNCTION)", slog.Any("error", err))
		}
	}
	return nil
}

// api is what the API is made of, and what runs beside it until it ends.
type api struct {
	httpapi.Options
	background []func(ctx context.Context)
}

func newAPI(cfg *config.Config, store *postgres.Store, o servingOptions) (*api, error) {
	issuer, err := newIssuer(cfg, store, o.log)
	if err != nil {
		return nil, err
	}
	a := &api{Options: httpapi.Options{
		Store:          store,
		Room:           store.Room,
		Ready:          store.Ready,
		TrustedProxies: cfg.Proxy.AddressFrom,
		AllowOrigin:    o.allowOrigin,
		MaxBodyBytes:   cfg.Upload.MaxBodyBytes,
		MaxOperations:  cfg.Upload.MaxOperations,
		Log:            o.log,
	}}
	if issuer != nil {
		a.Tokens = issuer
		a.watchTokenKeys(cfg, issuer, o)
	}
	if cfg.Upload.WriteCheckpoints {
		a.Checkpoints = store
	}
	return a, a.signIn(cfg, store, issuer, o.log)
}

// newIssuer returns nil where ferry runs without a token key.
func newIssuer(cfg *config.Config, store *postgres.Store, log *slog.Logger) (*tokens.Issuer, error) {
	if !cfg.Token.Enabled() {
		log.Warn("there is no token key: /token answers 404 (FERRY_TOKEN_KEYS, or FERRY_TOKEN_KID and FERRY_TOKEN_SECRET)")
		return nil, nil
	}
	keys, err := servingKeys(cfg.Token, sessionSecrets(cfg))
	if err != nil {
		return nil, fmt.Errorf("token keys: %w", err)
	}
	options := tokenOptions(cfg, keys, log)
	if function := cfg.Token.ClaimsFunction; function != nil {
		options.Source = store.ClaimsFunction(function...)
	}
	issuer, err := tokens.NewIssuer(options)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return issuer, nil
}

// tokenOptions are those of the configured tokens, without the claims of a
// function.
func tokenOptions(cfg *config.Config, keys tokens.KeySet, log *slog.Logger) tokens.Options {
	copies := make([]tokens.ClaimCopy, len(cfg.Token.Claims))
	for i, c := range cfg.Token.Claims {
		copies[i] = tokens.ClaimCopy{Name: c.Name, Path: c.Path}
	}
	return tokens.Options{
		Keys: keys, Audience: cfg.Token.Audience, Issuer: cfg.Token.Issuer, TTL: cfg.Token.TTL,
		Endpoint: cfg.PowerSyncURL, Claims: copies, Log: log, Now: time.Now,
	}
}

// drainTimeout is how long requests may finish once ferry is asked to stop: a
// little longer than an answer may take.
const drainTimeout = 26 * time.Second

// listenAndServe serves the API and the admin pages until ctx ends.
func listenAndServe(ctx context.Context, cfg *config.Config, handler http.Handler, o servingOptions) error {
	api, err := newServer(ctx, "FERRY_LISTEN", cfg.Listen, handler, o.log)
	if err != nil {
		return err
	}
	defer api.close()
	admin, err := newServer(ctx, "FERRY_ADMIN_LISTEN", cfg.AdminListen, adminHandler(), o.log)
	if err != nil {
		return err
	}
	defer admin.close()

	failed := make(chan error, 2)
	go func() { failed <- api.serve() }()
	go func() { failed <- admin.serve() }()
	address := api.listener.Addr().String()
	o.log.Info("ferry listens", slog.String("version", version),
		slog.String("address", address), slog.String("admin", admin.listener.Addr().String()))
	if o.listening != nil {
		if err := o.listening(address); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	o.log.Info("ferry stops once running requests are answered")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := api.Shutdown(drain); err != nil {
		return fmt.Errorf("not all requests were answered within %s: %w", drainTimeout, err)
	}
	return nil
}

type listeningServer struct {
	*http.Server
	listener net.Listener
}

// newServer listens on the address that the variable gives.
func newServer(ctx context.Context, variable, address string, handler http.Handler, log *slog.Logger) (*listeningServer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s: stop it, or choose another address (%s)", address, variable)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return &listeningServer{
		listener: listener,
		Server: &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       30 * time.Second, // a phone on a slow line
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       120 * time.Second,
			MaxHeaderBytes:    32 << 10,
			ConnState:         collectAsConnectionsCome(),
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}, nil
}

// close ends the server with its open requests, also before serve was called.
func (s *listeningServer) close() {
	_ = s.Close()
	_ = s.listener.Close()
}

func (s *listeningServer) serve() error {
	if err := s.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// adminHandler serves profiles, on an address that only the operator reaches.
func adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
