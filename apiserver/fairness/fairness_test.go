package fairness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/flowcontrol"
)

func ask(user string, groups ...string) *access.Attributes {
	return &access.Attributes{User: &api.User{Name: user, Groups: append(groups, "system:authenticated")}, Verb: "get", Resource: true, Version: "v1", Plural: "pods", Namespace: "default"}
}

func TestClassification(t *testing.T) {
	f := New(Config{})
	node, root := ask("system:node:a", "system:nodes"), ask("admin", "system:masters")
	status := *node
	status.Plural, status.Subresource, status.Namespace = "nodes", "status", ""
	lease := *ask("system:kube-scheduler")
	lease.Group, lease.Plural = "coordination.k8s.io", "leases"
	health := &access.Attributes{User: ask("x").User, Verb: "get", Path: "/healthz"}
	single := &access.Attributes{User: ask("x").User, Verb: "get", Path: "/healthz/etcd"}
	for want, a := range map[string]*access.Attributes{
		"system-nodes": node, "exempt": root, "system-node-high": &status, "system-leader-election": &lease, "probes": health,
		"kube-system-service-accounts": ask("system:serviceaccount:kube-system:x", "system:serviceaccounts"),
		"service-accounts":             ask("system:serviceaccount:default:x", "system:serviceaccounts"),
		"global-default":               single,
	} {
		if got := f.plan.Load().find(a); got == nil || got.name != want {
			t.Errorf("%+v is of %v, want %s", a, got, want)
		}
	}
}

// A hand has different queues, all of them in range, and each hash its own.
func TestDeal(t *testing.T) {
	seen := map[string]bool{}
	for range 2000 {
		hand := make([]int, 6)
		deal(rand.Uint64(), 128, hand)
		if !slices.IsSorted(hand) || len(slices.Compact(slices.Clone(hand))) != 6 || hand[0] < 0 || hand[5] >= 128 {
			t.Fatalf("hand %v", hand)
		}
		seen[fmt.Sprint(hand)] = true
	}
	if len(seen) < 1990 {
		t.Errorf("%d different hands of 2000", len(seen))
	}
	whole := make([]int, 4)
	deal(12345, 4, whole)
	if !slices.Equal(whole, []int{0, 1, 2, 3}) {
		t.Errorf("all of four queues: %v", whole)
	}
}

// Whatever happens, seats add up, nobody's reserve is taken, and nobody waits beside free seats.
func TestCoreInvariants(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	p, _ := compile(nil, append(flowcontrol.MandatoryLevels(), flowcontrol.SuggestedLevels()...), 60)
	c := newCore(60)
	c.configure(p)
	now := time.Unix(0, 0)
	var tickets []*ticket
	for step := range 50000 {
		now = now.Add(time.Duration(random.IntN(1000)) * time.Microsecond)
		l := c.levels[random.IntN(len(c.levels))]
		if i := random.IntN(3); i > 0 || len(tickets) == 0 {
			if t, _ := c.arrive(l, random.Uint64N(20), 1+random.IntN(3), now); t != nil {
				tickets = append(tickets, t)
			}
		} else {
			i := random.IntN(len(tickets))
			t := tickets[i]
			tickets = slices.Delete(tickets, i, i+1)
			if t.running {
				c.finish(t, now)
			} else {
				c.leave(t, now)
			}
		}
		spare := c.seats
		for _, l := range c.levels {
			spare -= l.held()
			used, waiting := 0, 0
			for i := range l.queues {
				waiting += len(l.queues[i].waiting)
				used += l.queues[i].used
			}
			if waiting != l.waiting || l.plan.queuing && used != l.used {
				t.Fatalf("step %d: %s counts %d waiting and %d seats, has %d and %d", step, l.plan.name, l.waiting, l.used, waiting, used)
			}
			if l.waiting > 0 && l.used+3 <= l.plan.reserved {
				t.Fatalf("step %d: %s waits beside its own seats", step, l.plan.name)
			}
		}
		if spare != c.spare || spare < -3*len(c.levels) {
			t.Fatalf("step %d: %d spare seats, counted %d", step, spare, c.spare)
		}
	}
}

// A flow that floods does not keep another one waiting, nor one level another.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Seats: 30})
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		served := map[string]int{}
		var mu sync.Mutex
		client := func(a *access.Attributes, pause time.Duration) {
			group.Go(func() {
				for ctx.Err() == nil {
					place, err := f.Admit(ctx, a, 1, http.Header{})
					if err == nil {
						time.Sleep(10 * time.Millisecond)
						place.Leave()
						mu.Lock()
						served[a.User.Name]++
						mu.Unlock()
					}
					time.Sleep(pause)
				}
			})
		}
		for range 200 {
			client(ask("system:serviceaccount:a:flood", "system:serviceaccounts"), time.Microsecond)
		}
		client(ask("system:serviceaccount:b:calm", "system:serviceaccounts"), 10*time.Millisecond)
		client(ask("system:node:a", "system:nodes"), 10*time.Millisecond)
		time.Sleep(10 * time.Second)
		cancel()
		group.Wait()
		if served["system:serviceaccount:b:calm"] < 300 || served["system:node:a"] < 400 {
			t.Errorf("served %v", served)
		}
		for _, l := range f.Levels() {
			if l.Used != 0 || l.Running != 0 || l.Waiting != 0 {
				t.Errorf("at the end %+v", l)
			}
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Seats: 1, Wait: 3 * time.Second})
		a := ask("bob")
		var places []Place
		for { // all that can be had at once
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			place, err := f.Admit(ctx, a, 1, http.Header{})
			cancel()
			if err != nil {
				break
			}
			places = append(places, place)
		}
		begun := time.Now()
		_, err := f.Admit(t.Context(), a, 1, http.Header{})
		if seconds, retry := apierrors.SuggestsClientDelay(err); !apierrors.IsTooManyRequests(err) || !retry || seconds != 1 || time.Since(begun) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		for i := range places {
			places[i].Leave()
			places[i].Leave()
		}
		if place, err := f.Admit(t.Context(), a, 1, http.Header{}); err != nil {
			t.Error(err)
		} else {
			place.Leave()
		}
	})
}

// Levels and schemas come and go under load.
func TestReconfigure(t *testing.T) {
	f := New(Config{Seats: 10})
	h := http.Header{}
	place, err := f.Admit(t.Context(), ask("bob"), 1, h)
	if err != nil {
		t.Fatal(err)
	}
	levels := flowcontrol.MandatoryLevels()
	levels[1].UID = "u1"
	schemas := flowcontrol.MandatorySchemas()
	schemas[1].UID = "u2"
	lost := flowcontrol.SuggestedSchemas()[8]
	p, dangling := compile(append(schemas, lost), levels, 10)
	if !dangling["global-default"] || len(dangling) != 1 {
		t.Errorf("dangling %v", dangling)
	}
	f.use(p)
	place.Leave()
	f.use(p)
	if n := len(f.Levels()); n != 2 {
		t.Errorf("%d levels are left", n)
	}
	if place, err = f.Admit(t.Context(), ask("bob"), 1, h); err != nil || h.Get("X-Kubernetes-PF-FlowSchema-UID") != "u2" || h.Get("X-Kubernetes-PF-PriorityLevel-UID") != "u1" {
		t.Errorf("%v %v", err, h)
	}
	place.Leave()
}

func BenchmarkAdmit(b *testing.B) {
	f := New(Config{})
	a := ask("system:serviceaccount:default:x", "system:serviceaccounts", "system:serviceaccounts:default")
	h := http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		place, err := f.Admit(b.Context(), a, 1, h)
		if err != nil {
			b.Fatal(err)
		}
		place.Leave()
	}
}

func BenchmarkAdmitParallel(b *testing.B) {
	f := New(Config{})
	b.RunParallel(func(pb *testing.PB) {
		a, h := ask("bob"), http.Header{}
		for pb.Next() {
			if place, err := f.Admit(context.Background(), a, 1, h); err == nil {
				place.Leave()
			}
		}
	})
}

// TestLasting: requests that wait for others, a webhook or a slow client, hold up nobody for
// long, and are bounded nevertheless.
func TestLasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Seats: 1, Lasting: 2, Wait: 3 * time.Second})
		ask := &access.Attributes{User: &api.User{Name: "a", Groups: []string{"system:authenticated"}}, Verb: "get", Resource: true, Plural: "pods"}
		var places []Place
		for i := range 3 {
			start := time.Now()
			p, err := f.Admit(t.Context(), ask, 1, http.Header{})
			if want := time.Duration(min(i, 1)) * lasting; err != nil || time.Since(start) != want {
				t.Fatalf("request %d: %v after %v, want %v", i, err, time.Since(start), want)
			}
			places = append(places, p)
		}
		if _, err := f.Admit(t.Context(), ask, 1, http.Header{}); err == nil {
			t.Fatal("a fourth request runs")
		}
		for i := range places {
			places[i].Leave()
			places[i].Leave()
		}
		p, err := f.Admit(t.Context(), ask, 1, http.Header{})
		if err != nil || f.lasting != 2 {
			t.Fatalf("%v; %d may be set aside, want 2", err, f.lasting)
		}
		p.Leave()
		if l := f.core.byName["global-default"]; l.used != 0 || l.running != 0 {
			t.Fatalf("not all was given back: %d seats, %d requests", l.used, l.running)
		}
	})
}
