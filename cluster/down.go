package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/proa-dev/proa/host"
)

// Down stops the cluster's processes and containers and undoes what was changed on the
// machine; the data stays.
func Down(ctx context.Context, p *Place, report func(string)) error {
	return p.putBack(ctx, host.ScopeDown, report)
}

// Uninstall does what Down does and removes everything that the cluster has on disk. A server of
// several leaves its cluster first, if it can.
func Uninstall(ctx context.Context, p *Place, report func(string)) error {
	leaveServers(ctx, p, report)
	if err := p.putBack(ctx, host.ScopeUninstall, report); err != nil {
		return err
	}
	for _, path := range []string{p.Kubeconfig(), p.RunDir(), p.Dir()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove %s: %w", path, err)
		}
		report("removed " + path)
	}
	// The shared folders go with the last cluster that used them.
	for _, dir := range []string{p.Roots.Data, p.Roots.Run, p.Registries(), p.Roots.Config} {
		_ = os.Remove(dir) // not empty: somebody else's
	}
	return nil
}

// PlanUninstall reports what Uninstall would undo.
func PlanUninstall(p *Place, report func(string)) error {
	if p.joinedOthers() {
		report("leave the other servers of the cluster, if there are any")
	}
	for _, name := range runningProcesses(p) {
		report("stop " + name)
	}
	for _, one := range append(p.furthers(), p) {
		if err := planUndo(one, report); err != nil {
			return err
		}
	}
	for _, path := range []string{p.Kubeconfig(), p.RunDir(), p.Dir()} {
		report("remove " + path)
	}
	return nil
}

func planUndo(p *Place, report func(string)) error {
	journal, err := host.Open(p.Journal())
	if err != nil {
		return err
	}
	defer journal.Close()
	changes := journal.Changes()
	for i := len(changes) - 1; i >= 0; i-- {
		report(fmt.Sprintf("undo %s %s", changes[i].Kind, changes[i].Name))
	}
	return nil
}

func (p *Place) putBack(ctx context.Context, scope host.Scope, report func(string)) error {
	errs := []error{p.stopAll(ctx, report)}
	// What a node did inside its namespace goes before the namespace.
	for _, one := range append(p.furthers(), p) {
		journals, err := filepath.Glob(one.nodeJournal("*"))
		if err != nil {
			errs = append(errs, err)
		}
		for _, path := range append(journals, one.Journal()) {
			if err := undo(ctx, path, scope, report); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// stopAll stops the processes, the agents first; servers side by side, since one that is left alone
// by the others can write nothing any more.
func (p *Place) stopAll(ctx context.Context, report func(string)) error {
	var mu sync.Mutex
	var errs []error
	stop := func(name string) {
		err := stopProcess(ctx, p, name)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, err)
			return
		}
		report("stopped " + name)
	}
	var servers []string
	for _, name := range runningProcesses(p) {
		if p.isServer(name) {
			servers = append(servers, name)
			continue
		}
		stop(name)
	}
	var together sync.WaitGroup
	for _, name := range servers {
		together.Go(func() { stop(name) })
	}
	together.Wait()
	return errors.Join(errs...)
}

// undo puts back what a journal holds; none is nothing to put back.
func undo(ctx context.Context, path string, scope host.Scope, report func(string)) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	journal, err := host.Open(path)
	if err != nil {
		return err
	}
	defer journal.Close()
	return journal.Undo(ctx, scope, report)
}
