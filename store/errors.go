package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// What the store refuses, to be compared with errors.Is.
var (
	ErrExists    = errors.New("object already exists")
	ErrNotFound  = errors.New("object not found")
	ErrCompacted = errors.New("the revision is older than what is kept")
	ErrFuture    = errors.New("the revision is newer than the present")
	ErrSlow      = errors.New("the watcher fell too far behind")
	ErrClosed    = errors.New("closed")
	ErrTooLarge  = errors.New("etcdserver: request is too large")
	ErrFull      = errors.New("the disk of the store is full")
	ErrRemoved   = errors.New("this server was removed from the cluster: its data must be deleted before it can join again")
	ErrClaimed   = errors.New("another object has what must be unique")
	ErrName      = errors.New("namespace or name cannot be part of a key")
)

// failed gives err the store's own meaning, and says what was attempted.
func failed(action, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return ErrTooLarge
	case errors.Is(err, rpctypes.ErrNoSpace):
		err = ErrFull
	case errors.Is(err, rpctypes.ErrCompacted):
		err = ErrCompacted
	case errors.Is(err, rpctypes.ErrFutureRev):
		err = ErrFuture
	}
	return fmt.Errorf("%s %s: %w", action, key, err)
}
