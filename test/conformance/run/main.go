// Command run runs the official conformance suite: it builds the suite and what it needs,
// starts a cluster unless it is given one, runs the specs and writes the results.
//
// The one idea: everything but proa.go is the same for every cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/proa-dev/proa/test/conformance/images"
	"github.com/proa-dev/proa/test/conformance/report"
)

// options is what the user asks for.
type options struct {
	out, module, binary          string
	results                      string // folder of this run, below out
	focus, skip, labels          string
	kubeconfig, load             string
	parallel, serial             bool
	keep, pull, again, buildOnly bool
	procs                        int
	timeout                      time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o := flags()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	err := run(ctx, o)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func flags() options {
	var o options
	flag.StringVar(&o.out, "out", "_output/conformance", "folder of programs, images and results")
	flag.StringVar(&o.module, "module", "test/conformance", "folder of the kit's module")
	flag.StringVar(&o.binary, "proa", "bin/proa", "the program that starts the cluster")
	flag.StringVar(&o.focus, "focus", "", "run only specs whose name matches this regular expression")
	flag.StringVar(&o.skip, "skip", "", "leave out specs whose name matches")
	flag.BoolVar(&o.again, "failed", false, "run only specs that failed in the last run")
	flag.StringVar(&o.labels, "labels", "Conformance", "ginkgo's label filter: which specs there are to choose from")
	flag.StringVar(&o.kubeconfig, "cluster", "", "kubeconfig of a running cluster to test, instead of starting one")
	flag.StringVar(&o.load, "load", "", "with --cluster: a command that brings the image archive, its last argument, to all nodes; empty: the nodes pull")
	flag.BoolVar(&o.parallel, "parallel", true, "run the specs that may run side by side")
	flag.BoolVar(&o.serial, "serial", true, "run the specs that must run alone")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster running, and use it again when it does")
	flag.BoolVar(&o.pull, "pull", false, "let the nodes pull the images from their registries, instead of making them here")
	flag.BoolVar(&o.buildOnly, "build-only", false, "build programs and images, run nothing")
	flag.IntVar(&o.procs, "procs", 10, "specs side by side")
	flag.DurationVar(&o.timeout, "timeout", 2*time.Hour, "end after this, whatever happens")
	flag.Parse()
	return o
}

// run does everything in order; what was started has ended when it returns.
func run(ctx context.Context, o options) (err error) {
	for _, path := range []*string{&o.out, &o.module, &o.binary, &o.kubeconfig} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	say("building the suite")
	programs, err := build(ctx, o.module, filepath.Join(o.out, "bin"))
	if err != nil {
		return err
	}
	var store *images.Store
	if o.kubeconfig == "" && !o.pull || o.load != "" {
		say("making images")
		if store, err = makeImages(ctx, o, programs); err != nil {
			return err
		}
	}
	if o.buildOnly {
		return nil
	}
	if o.again {
		if o.focus, err = lastFailed(o.out); err != nil {
			return err
		}
	}
	if o.results, err = resultsDir(o.out); err != nil {
		return err
	}
	kubeconfig, end, err := clusterFor(ctx, o, store)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	return runSuite(ctx, o, programs, kubeconfig)
}

// clusterFor gives the kubeconfig of the cluster to test, with the images on its nodes.
func clusterFor(ctx context.Context, o options, store *images.Store) (kubeconfig string, end func() error, err error) {
	if o.kubeconfig == "" {
		say("starting the cluster")
		return startProa(ctx, o, store)
	}
	end = func() error { return nil }
	if o.load != "" {
		say("loading images")
		command := append(strings.Fields(o.load), archive(o))
		err = execute(ctx, "", command[0], command[1:]...)
	}
	return o.kubeconfig, end, err
}

func archive(o options) string { return filepath.Join(o.out, "images.tar") }

func makeImages(ctx context.Context, o options, p *programs) (*images.Store, error) {
	store, err := images.NewStore(filepath.Join(o.out, "images"))
	if err != nil {
		return nil, err
	}
	in := images.Inputs{Kubernetes: p.kubernetes, Programs: p.dir, Cache: o.out}
	if err := images.ForSuite(ctx, in, store); err != nil {
		return nil, err
	}
	return store, store.Archive(archive(o), images.Pause)
}

// runSuite runs the specs in two turns and says how it went; an error when one failed.
func runSuite(ctx context.Context, o options, p *programs, kubeconfig string) error {
	s := suite{options: o, programs: p, kubeconfig: kubeconfig}
	var all []report.Spec
	var failed error
	for _, t := range turns(o) {
		if ctx.Err() != nil {
			break
		}
		say("running the %s specs", t.name)
		specs, err := s.run(ctx, t)
		all = append(all, specs...)
		failed = errors.Join(failed, err)
	}
	return errors.Join(failed, conclude(o, all))
}

// conclude writes the table, to a file and to the terminal.
func conclude(o options, all []report.Spec) error {
	f, err := os.Create(filepath.Join(o.results, "results.md"))
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Kubernetes conformance suite %s, %s\n\n", version, time.Now().UTC().Format(time.DateTime+" UTC"))
	if err := report.Table(&text, all); err != nil {
		return err
	}
	fmt.Print("\n", text.String(), "\nLogs and reports are in ", o.results, "\n")
	_, err = f.WriteString(text.String())
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if n := len(report.Failed(all)); n > 0 {
		return fmt.Errorf("%d of %d specs failed", n, len(all))
	}
	if len(all) == 0 {
		return errors.New("no spec was run: does the focus match any?")
	}
	return nil
}

func say(format string, args ...any) {
	fmt.Printf("%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
