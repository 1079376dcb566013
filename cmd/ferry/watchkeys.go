package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"ferry/internal/config"
	"ferry/internal/tokens"
)

// keyInterval is how often the file of token keys is looked at. Its content is
// compared: Kubernetes swaps a mounted secret by a symbolic link two levels up,
// which watchers of the file itself miss.
const keyInterval = time.Second

// keyWatcher keeps the keys of a running server as their file has them.
type keyWatcher struct {
	token  config.Token // with the text that is in use, or was tried last
	accept func(config.Token) (tokens.KeySet, error)
	use    func(tokens.KeySet) error
	log    *slog.Logger
	// failure is why the file cannot be read, as it was logged last.
	failure string
}

// watchTokenKeys watches the file of token keys, if there is one, beside the
// API. SIGHUP makes it look at once, and say so; but it ends `ferry dev`, which
// belongs to a terminal.
func (a *api) watchTokenKeys(cfg *config.Config, issuer *tokens.Issuer, o servingOptions) {
	if cfg.Token.KeysFile == "" {
		return
	}
	secrets := sessionSecrets(cfg)
	w := &keyWatcher{
		token:  cfg.Token,
		accept: func(t config.Token) (tokens.KeySet, error) { return servingKeys(t, secrets) },
		use:    issuer.UseKeys,
		log:    o.log.With(slog.String("file", cfg.Token.KeysFile)),
	}
	signals := make(chan os.Signal, 1)
	if o.demo == nil {
		signal.Notify(signals, syscall.SIGHUP)
	}
	a.background = append(a.background, func(ctx context.Context) {
		defer signal.Stop(signals)
		ticker := time.NewTicker(keyInterval)
		defer ticker.Stop()
		w.watch(ctx, ticker.C, signals)
	})
}

func (w *keyWatcher) watch(ctx context.Context, ticks <-chan time.Time, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			w.look(false)
		case <-signals:
			w.look(true)
		}
	}
}

// look takes the keys of the file if they have changed, or if somebody asked.
// Keys that cannot be taken leave the old ones in use; each failure is logged
// once.
func (w *keyWatcher) look(asked bool) {
	text, err := config.ReadFile(w.token.KeysFile)
	if err != nil {
		if asked || w.failure != err.Error() {
			w.refuse("it " + err.Error())
		}
		w.failure = err.Error()
		return
	}
	if text == w.token.Keys.Reveal() && w.failure == "" && !asked {
		return
	}
	w.failure = ""
	w.token.Keys = config.NewSecret(text)
	keys, err := w.accept(w.token)
	if err == nil {
		err = w.use(keys)
	}
	if err != nil {
		w.refuse(err.Error())
		return
	}
	w.log.Info("the token keys were read again", slog.String("audit", "key_change"), slog.Any("kids", keys.IDs()), slog.String("active", keys.ActiveID()))
}

func (w *keyWatcher) refuse(why string) {
	w.log.Error("the file of token keys cannot be used, and the old keys stay in use", slog.String("error", why))
}
