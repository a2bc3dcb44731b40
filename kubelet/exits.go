package kubelet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/kubelet/cri"
	"github.com/proa-dev/proa/kubelet/plan"
)

// Exits tells of ended containers before the runtime says so over CRI: it is still removing
// what they leave. It blocks until ctx ends or the stream breaks.
type Exits func(ctx context.Context, tell func(container string, code int32, at time.Time)) error

// exited is the end of a container that the runtime has not told of yet.
type exited struct {
	code int32
	at   time.Time
}

// killedCode is what a process that was killed ends with; only the runtime knows whether
// memory was the reason.
const killedCode = 137

// exitRetry is the wait before the stream of exits is opened again.
const exitRetry = time.Second

// watchExits listens until ctx ends. Without it all is as well, a little later.
func (k *Kubelet) watchExits(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := k.cfg.Exits(ctx, k.exit); err != nil && ctx.Err() == nil {
			k.log.Debug("no early word of ended containers", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(exitRetry):
		}
	}
	return nil
}

// exit finds the pod of a container that has ended and wakes it.
func (k *Kubelet) exit(id string, code int32, at time.Time) {
	if code == killedCode {
		return
	}
	for _, w := range k.all() {
		w.mu.Lock()
		c := w.observed.ByID(id)
		found := c != nil && c.State == plan.Running && !wantsLog(c, code)
		if found {
			w.observed = w.observed.With(id, func(c *plan.Container) { end(c, code, at) })
			w.exits[id] = exited{code, at}
		}
		w.mu.Unlock()
		if found {
			w.poke()
			return
		}
	}
}

func end(c *plan.Container, code int32, at time.Time) {
	c.State, c.ExitCode, c.FinishedAt = plan.Exited, code, at
}

// wantsLog tells whether the last words of a container are the end of its log, which the
// runtime may still be writing.
func wantsLog(c *plan.Container, code int32) bool {
	return code != 0 && c.Notes[cri.NoteTerminationPolicy] == string(corev1.TerminationMessageFallbackToLogsOnError)
}

// early puts what is known of ended containers into what the runtime says of them, and
// forgets it when the runtime says so itself; with mu held.
func (w *worker) early(seen *plan.Observed) *plan.Observed {
	for id, e := range w.exits {
		if c := seen.ByID(id); c == nil || c.State != plan.Running {
			delete(w.exits, id)
			continue
		}
		seen = seen.With(id, func(c *plan.Container) { end(c, e.code, e.at) })
	}
	return seen
}
