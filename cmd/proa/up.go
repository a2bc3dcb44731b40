package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newUp(c *common) *cobra.Command {
	f := &serverFlags{}
	o := cluster.UpOptions{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster in the background and wait until it is ready",
		Long: `Start a cluster in the background and wait until it is ready: a server, which is a node
too, and with --nodes N further nodes on this machine, each a process in a network
namespace of its own with its own container runtime. A second call says that it is up.`,
		Example: `  proa up
  proa up --nodes 3
  proa up --name test --https-port 7443`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			if o.Nodes < 0 || o.Nodes > cluster.MaxLocalNodes || o.Nodes == 0 && cmd.Flags().Changed("nodes") {
				return &flagError{"nodes", fmt.Sprint(o.Nodes), fmt.Sprintf("between 1 and %d", cluster.MaxLocalNodes)}
			}
			if !cfg.Node && o.Nodes > 1 {
				return errors.New("--nodes counts the server's own node: it does not go with --node=false")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), o.Timeout)
			defer cancel()
			o.ServerArgs = given(cmd, "nodes", "timeout", "node-ip")
			out := cmd.OutOrStdout()
			result, err := cluster.Up(ctx, c.roots(), c.name, cfg, o, func(s cluster.Step) { printStep(out, s) })
			if err != nil {
				return err
			}
			return printUp(out, c.name, result)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().IntVar(&o.Nodes, "nodes", 0, "number of nodes on this machine (default: as many as before, or 1)")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", time.Minute, "give up waiting after this")
	return cmd
}

func printStep(out io.Writer, s cluster.Step) {
	mark := "  "
	if s.Failed {
		mark = "! "
	}
	fmt.Fprintf(out, "%s%6.2fs  %s\n", mark, s.After.Seconds(), s.Text)
}

func printUp(out io.Writer, name string, r cluster.UpResult) error {
	if r.Already {
		_, err := fmt.Fprintf(out, "Cluster %q is up at %s.\n", name, r.Server)
		return err
	}
	kubectl := "proa kubectl"
	if name != cluster.DefaultName {
		kubectl = "PROA_NAME=" + name + " proa kubectl"
	}
	_, err := fmt.Fprintf(out, "Cluster %q is up at %s after %.2f s.\n\n  %s get nodes\n  export KUBECONFIG=%s\n",
		name, r.Server, r.After.Seconds(), kubectl, r.Kubeconfig)
	return err
}
