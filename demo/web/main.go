// Command web is the demo: a small HTTP server that shows where it runs and how it was
// configured, and that loses no request when it is replaced.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// version is set when the image is built.
var version = "v1"

const (
	drain        = 2 * time.Second
	slow         = 3 * time.Second
	drainTimeout = 20 * time.Second
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var draining atomic.Bool
	server := &http.Server{Addr: env("LISTEN", ":8080"), Handler: handler(&draining), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	fmt.Println("web", version, "listens on", server.Addr)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// A node may send requests until it has heard that this pod leaves: they are answered.
	draining.Store(true)
	select {
	case <-time.After(drain):
	case err := <-ended:
		return err
	}
	deadline, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := server.Shutdown(deadline); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func env(key, fallback string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return fallback
}

func handler(draining *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-timer.C:
			fmt.Fprintln(w, "slow but sure")
		case <-r.Context().Done():
		}
	})
	return mux
}

func home(w http.ResponseWriter, _ *http.Request) {
	host, err := os.Hostname()
	if err != nil {
		host = err.Error()
	}
	secret := "missing"
	if os.Getenv("TOKEN") != "" {
		secret = "present"
	}
	fmt.Fprintf(w, "hello from %s\npod: %s\nnode: %s\ngreeting: %s\nfile: %s\nsecret: %s\n",
		version, host, env("NODE_NAME", "unknown"), env("GREETING", "none"), file(env("CONFIG", "/etc/web/message")), secret)
}

func file(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "none"
	}
	return strings.TrimSpace(string(data))
}
