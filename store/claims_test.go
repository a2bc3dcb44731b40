package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/proa-dev/proa/apis/api"
)

// claiming is pods(), no two of which may have the same node.
func claiming() *api.Kind {
	return api.Define(api.Resource[*corev1.Pod]{
		Version: "v1", Kind: "Pod", Plural: "claims", Namespaced: true,
		Claims: func(p *corev1.Pod) []string {
			if p.Spec.NodeName == "" {
				return nil
			}
			return []string{p.Spec.NodeName}
		},
	})
}

// What must be unique is so, whichever servers try to have it at the same moment.
func TestClaims(t *testing.T) {
	t.Parallel()
	var kinds []*Collection
	for _, s := range openServers(t, 3) {
		kinds = append(kinds, serve(t, s.Store, claiming()))
	}
	const values = 8
	var mu sync.Mutex
	holder, done, refused := map[string]string{}, 0, 0
	hold := func(value, name string) { // called while it is held
		mu.Lock()
		defer mu.Unlock()
		if other, ok := holder[value]; ok && other != name {
			t.Errorf("%s and %s have %s", other, name, value)
		}
		holder[value] = name
		done++
	}
	drop := func(value string) {
		mu.Lock()
		defer mu.Unlock()
		delete(holder, value)
	}
	var group sync.WaitGroup
	for i := range 9 {
		group.Go(func() {
			c, name := kinds[i%3], fmt.Sprint("p", i)
			for range 60 {
				value := fmt.Sprint("v", rand.IntN(values))
				if _, err := c.Create(t.Context(), pod("a", name, value)); errors.Is(err, ErrClaimed) {
					mu.Lock()
					refused++
					mu.Unlock()
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				hold(value, name)
				other := fmt.Sprint("v", rand.IntN(values))
				change := setNode(other)
				drop(value) // it may be gone any moment now
				_, err := c.Update(t.Context(), "a", name, change)
				if err == nil {
					hold(other, name)
					drop(other)
				} else if !errors.Is(err, ErrClaimed) {
					t.Error(err)
				}
				if _, err := kinds[rand.IntN(3)].Delete(t.Context(), "a", name, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d held, %d refused", done, refused)
	if done == 0 || refused == 0 {
		t.Error("nothing was contended for")
	}
}

// A server that is alone pays nothing for it.
func TestClaimsAlone(t *testing.T) {
	s, _ := openPods(t, Config{})
	c := serve(t, s, claiming())
	if _, err := c.Create(context.Background(), pod("a", "p", "v")); err != nil {
		t.Fatal(err)
	}
	answer, err := s.link.get(t.Context(), guardRoot+c.kind.Prefix)
	if err != nil || len(answer.Kvs) > 0 || c.owners != nil {
		t.Errorf("%v %v", answer, err)
	}
}
