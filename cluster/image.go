package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/proa-dev/proa/runtime"
	"github.com/proa-dev/proa/runtime/images"
)

// NodeImage is an image on a node.
type NodeImage struct{ Node, Image string }

// LoadImages brings an archive's images to all nodes of this machine at once.
func LoadImages(ctx context.Context, p *Place, file string) ([]NodeImage, error) {
	return onNodes(ctx, p, func(ctx context.Context, store *images.Store) ([]string, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return store.Import(ctx, f)
	})
}

// ListImages names the images of all nodes of this machine.
func ListImages(ctx context.Context, p *Place) ([]NodeImage, error) {
	return onNodes(ctx, p, func(ctx context.Context, store *images.Store) ([]string, error) {
		all, err := store.List(ctx)
		var names []string
		for _, i := range all {
			names = append(names, i.Names...)
		}
		return names, err
	})
}

func onNodes(ctx context.Context, p *Place, do func(context.Context, *images.Store) ([]string, error)) ([]NodeImage, error) {
	sockets, err := filepath.Glob(filepath.Join(p.RunDir(), "*", "containerd.sock"))
	if err != nil {
		return nil, err
	}
	if len(sockets) == 0 {
		return nil, errors.New("no node of this cluster runs on this machine; 'proa up' starts it")
	}
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	found := make([][]NodeImage, len(sockets))
	for i, socket := range sockets {
		node := filepath.Base(filepath.Dir(socket))
		group.Go(func() error {
			conn, err := runtime.Dial("unix://" + socket)
			if err != nil {
				return err
			}
			defer conn.Close()
			store, err := images.New(conn)
			if err != nil {
				return err
			}
			names, err := do(ctx, store)
			if err != nil {
				return fmt.Errorf("node %s: %w", node, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, n := range names {
				found[i] = append(found[i], NodeImage{node, n})
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var all []NodeImage
	for _, f := range found {
		all = append(all, f...)
	}
	return all, nil
}
