package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSharedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, open, most atomic.Int32
		n := New(func(ctx context.Context, node, _ string, _ int64) ([]byte, error) {
			asked.Add(1)
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			switch node {
			case "slow":
				<-ctx.Done()
				return nil, ctx.Err()
			case "broken":
				return []byte("{"), nil
			case "away":
				return nil, errors.New("refused")
			}
			time.Sleep(time.Second)
			return fmt.Appendf(nil, `{"node":{"cpu":7},"pods":[{"name":%q}]}`, node), nil
		}, slog.New(slog.DiscardHandler))
		nodes := []string{"a", "b", "slow", "broken", "away"}
		began := time.Now()
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				got := n.Of(t.Context(), nodes)
				if len(got) != 2 || got["a"].Node.CPU != 7 || got["b"].Pods[0].Name != "b" {
					t.Errorf("%+v", got)
				}
			})
		}
		group.Wait()
		if took := time.Since(began); took != patient {
			t.Errorf("took %s", took)
		}
		if asked.Load() != 5 {
			t.Errorf("asked %d times", asked.Load())
		}
		n.Of(t.Context(), nodes) // still fresh
		if asked.Load() != 5 {
			t.Errorf("asked again: %d", asked.Load())
		}
		time.Sleep(fresh)
		synctest.Wait()
		if len(n.known) != 0 {
			t.Errorf("%d answers are kept", len(n.known))
		}
		n.Of(t.Context(), []string{"a"})
		if asked.Load() != 6 {
			t.Errorf("asked %d times", asked.Load())
		}
		time.Sleep(fresh)

		gone, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if got := n.Of(gone, []string{"b"}); len(got) != 0 {
			t.Errorf("who went away got %v", got)
		}
		if got := n.Of(t.Context(), []string{"b"}); len(got) != 1 || asked.Load() != 7 {
			t.Errorf("the question went with him: %v, %d", got, asked.Load())
		}
		var many []string
		for i := range 3 * atOnce {
			many = append(many, fmt.Sprint("n", i))
		}
		most.Store(0)
		if got := n.Of(t.Context(), many); len(got) != len(many) || most.Load() != atOnce {
			t.Errorf("%d of %d answered, %d at once", len(got), len(many), most.Load())
		}
		time.Sleep(fresh)
	})
}
