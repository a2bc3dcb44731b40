package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const sample = "2026-01-01T00:00:01Z stdout F one\n" +
	"2026-01-01T00:00:02.5Z stderr F two\n" +
	"rubbish\n" +
	"2026-01-01T00:00:03Z stdout P thr\n" +
	"2026-01-01T00:00:03Z stdout F ee\n"

func TestRead(t *testing.T) {
	r := reader(t)
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, sample)
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"all":        {Options{Tail: -1}, "one\ntwo\nthree\n"},
		"none":       {Options{Tail: 0}, ""},
		"tail":       {Options{Tail: 4}, "two\nthree\n"},
		"stream":     {Options{Tail: -1, Stream: "stderr"}, "two\n"},
		"limit":      {Options{Tail: -1, Limit: 5}, "one\nt"},
		"since":      {Options{Tail: -1, Since: time.Date(2026, 1, 1, 0, 0, 2, 0, time.UTC)}, "two\nthree\n"},
		"timestamps": {Options{Tail: 2, Timestamps: true}, "2026-01-01T00:00:03.000000000Z three\n"},
	} {
		var out bytes.Buffer
		if err := r.Read(t.Context(), path, c.o, &out); err != nil || out.String() != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, out.String(), err, c.want)
		}
	}
}

func TestLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	long := strings.Repeat("x", 5*bufferSize)
	write(t, path, "2026-01-01T00:00:01Z stdout F "+long+"\n2026-01-01T00:00:02Z stdout F end\n")
	var out bytes.Buffer
	if err := reader(t).Read(t.Context(), path, Options{Tail: -1}, &out); err != nil || out.String() != long+"\nend\n" {
		t.Fatalf("got %d bytes, %v", out.Len(), err)
	}
}

// A follower sees what is appended, goes on in the new file after a rotation, and returns
// when the container has ended.
func TestFollow(t *testing.T) {
	r := reader(t)
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, sample)
	var ended atomic.Bool
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := r.Read(t.Context(), path, Options{Follow: true, Tail: 1, Ended: func(context.Context) bool { return ended.Load() }}, pw)
		_ = pw.Close()
		done <- err
	}()
	expect := func(want string) {
		t.Helper()
		buf := make([]byte, len(want))
		if _, err := io.ReadFull(pr, buf); err != nil || string(buf) != want {
			t.Fatalf("got %q, %v; want %q", buf, err, want)
		}
	}
	const head = "2026-01-01T00:00:09Z stdout F "
	expect("ee\n") // it follows now: what was there has come
	write(t, path, head+"a\n"+head[:10])
	expect("a\n")
	write(t, path, head[10:]+"b\n")
	expect("b\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, path+".1", head+"c\n")
	write(t, path, head+"d\n")
	expect("c\nd\n")
	ended.Store(true)
	write(t, path, head+"e\n")
	expect("e\n")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A log whose writer was done before the reading began is followed no longer than the
// container is said to run.
func TestFollowDone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, sample)
	begun := time.Now()
	ended := func(context.Context) bool { return time.Since(begun) > 50*time.Millisecond }
	var out bytes.Buffer
	if err := reader(t).Read(t.Context(), path, Options{Follow: true, Tail: 1, Ended: ended}, &out); err != nil || out.String() != "ee\n" {
		t.Fatalf("%q, %v", out.String(), err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("followed for %s", took)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample), int64(0))
	f.Add([]byte(`{"log":"x\n","stream":"stdout","time":"2026-01-01T00:00:01Z"}`), int64(3))
	f.Fuzz(func(t *testing.T, line []byte, limit int64) {
		fl := filter{o: Options{Timestamps: true, Since: time.Unix(1, 0)}, left: limit}
		fl.record(line, false)
		fl.record(line, true)
		if limit >= 0 && int64(len(fl.out)) > limit {
			t.Fatal("wrote more than the limit")
		}
	})
}

func reader(t *testing.T) *Reader {
	r, err := New(Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(fmt.Errorf("run: %w", err))
		}
	})
	return r
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
