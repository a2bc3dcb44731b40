package pki

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lastSeenFile holds the latest time that a cluster's server has seen, RFC 3339.
const lastSeenFile = "last-seen"

// noteEvery is how often it is written anew.
const noteEvery = 6 * time.Hour

// lastSeen reads it; the zero time when there is none. A damaged file is none: it only mends.
func lastSeen(dir string) (time.Time, error) {
	raw, err := os.ReadFile(filepath.Join(dir, lastSeenFile))
	if errors.Is(err, os.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time last seen: %w", err)
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(raw)))
	if err != nil {
		return time.Time{}, nil
	}
	return at, nil
}

// Behind is by how much the clock is certainly wrong: machines without a battery boot in the
// past. What is issued meanwhile is valid from that past on until long after the real
// present, and is issued anew as soon as the clock is right.
func (a *Authorities) Behind() time.Duration { return max(a.floor.Sub(a.now()), 0) }

// NoteTime writes the time down, from time to time, until ctx ends.
func (a *Authorities) NoteTime(ctx context.Context) error {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for {
		if err := a.note(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *Authorities) note() error {
	before, err := lastSeen(a.Dir)
	now := a.now()
	if err != nil || !now.After(before) {
		return err
	}
	return writeFile(filepath.Join(a.Dir, lastSeenFile), []byte(now.UTC().Format(time.RFC3339)+"\n"), 0o644)
}
