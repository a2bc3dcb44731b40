package store

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proa-dev/proa/apis/api"
)

// What a large cluster costs: 20,000 pods of 3 KB, loaded from disk, then listed.
func BenchmarkLarge(b *testing.B) {
	const many = 20_000
	dir := b.TempDir()
	s := openAt(b, dir, Config{})
	c := serve(b, s, pods())
	var wg sync.WaitGroup
	for part := range 64 {
		wg.Go(func() {
			for i := part; i < many; i += 64 {
				p := pod(fmt.Sprint("ns", i%50), fmt.Sprint("p", i), "n")
				p.Annotations = map[string]string{"a": strings.Repeat("x", 2800)}
				if _, err := c.Create(b.Context(), p); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	s, c = nil, nil
	heap := func(name string, from uint64) uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.Logf("%s: heap %.1f MiB more", name, float64(int64(m.HeapAlloc)-int64(from))/(1<<20))
		return m.HeapAlloc
	}
	empty := heap("empty", 0)
	start := time.Now()
	s = openAt(b, dir, Config{})
	defer s.Close()
	c = serve(b, s, pods())
	b.Logf("opened in %v", time.Since(start))
	heap("loaded", empty)
	var buffer []byte
	message := func(i *Item) (err error) {
		buffer, err = i.AppendMessage(buffer[:0])
		return err
	}
	list := func(name string, each func(*Item) error) {
		start := time.Now()
		must[*Snapshot](b)(c.Snapshot(b.Context(), Latest)).Ascend("", "", func(i *Item) bool {
			return each(i) == nil
		})
		b.Logf("%s: %v", name, time.Since(start))
		heap(name, empty)
	}
	list("protobuf", message)
	list("decoded", func(i *Item) error { i.Object(); return nil })
	list("json", func(i *Item) error {
		_, err := i.Encoded(0, func(o api.Object) ([]byte, error) { return json.Marshal(o) })
		return err
	})
	for b.Loop() {
		c.now().Ascend("", "", func(i *Item) bool { return message(i) == nil })
	}
}
