package store

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

var measure = flag.Bool("measure", false, "run TestServersIdle")

// BenchmarkServers is what a create costs: of one server as it is from the start, of one
// that others could join, and of three, at the leader and at another; by one client and by 32.
func BenchmarkServers(b *testing.B) {
	_, alone := openPods(b, Config{})
	one := openServers(b, 1)
	if err := one[0].becomeSeveral(b.Context()); err != nil {
		b.Fatal(err)
	}
	three := openServers(b, 3)
	leads := leader(b, three)
	for _, at := range []struct {
		name string
		c    *Collection
	}{{"alone", alone}, {"one", one[0].pods}, {"leader", leads.pods}, {"follower", others(three, leads)[0].pods}} {
		for _, clients := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", at.name, clients), func(b *testing.B) { benchCreate(b, at.c, at.name, clients) })
		}
		b.Run(at.name+"/read", func(b *testing.B) {
			_, _ = at.c.Create(b.Context(), pod("a", "x", "n")) // it is there
			for b.Loop() {
				must[*Item](b)(at.c.Get(b.Context(), "a", "x", Latest))
			}
		})
	}
}

func benchCreate(b *testing.B, c *Collection, prefix string, clients int) {
	var group sync.WaitGroup
	all := make([][]time.Duration, clients)
	used := processorTime(b)
	b.ResetTimer()
	for i := range clients {
		group.Go(func() {
			for n := i; n < b.N; n += clients {
				begun := time.Now()
				if _, err := c.Create(b.Context(), pod("a", fmt.Sprintf("%s-%d-%d-%d", prefix, clients, b.N, n), "n")); err != nil {
					b.Error(err)
					return
				}
				all[i] = append(all[i], time.Since(begun))
			}
		})
	}
	group.Wait()
	b.StopTimer()
	took := slices.Sorted(slices.Values(slices.Concat(all...)))
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64((processorTime(b)-used).Microseconds())/float64(b.N), "cpu-us/op")
}

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What three servers cost that nobody uses, and how long a server is away that gets its first companion.
func TestServersIdle(t *testing.T) {
	if !*measure {
		t.Skip("only measures")
	}
	first := openServers(t, 1)[0]
	begun := time.Now()
	if err := first.becomeSeveral(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("restarted in place in %v", time.Since(begun))
	measure := func(what string) {
		time.Sleep(time.Second)
		wakes, used := switches(t), processorTime(t)
		time.Sleep(5 * time.Second)
		t.Logf("%s: %.0f wake-ups/s, %.2f%% of a core", what, float64(switches(t)-wakes)/5, (processorTime(t)-used).Seconds()/5*100)
	}
	measure("one that others can join")
	first.stop(t)
	openServers(t, 3)
	measure("three in one process")
}
