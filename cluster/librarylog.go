package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"k8s.io/klog/v2"
)

// logLibraries sends to log what the libraries say by klog.
func logLibraries(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(closing{log.With("part", "library").Handler()}))
}

// closing holds back the errors of streams that we closed ourselves: the library of
// WebSockets calls it an error when an exec or a log has come to its end.
type closing struct{ slog.Handler }

func (h closing) Handle(ctx context.Context, record slog.Record) error {
	closed := false
	record.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		closed = closed || ok && errors.Is(err, net.ErrClosed)
		return !closed
	})
	if closed {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

func (h closing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return closing{h.Handler.WithAttrs(attrs)}
}
func (h closing) WithGroup(name string) slog.Handler { return closing{h.Handler.WithGroup(name)} }
