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

// maxLocalServers bounds the servers of one cluster on one machine; more than seven members of etcd
// are slower and survive hardly more.
const maxLocalServers = 7

func newUp(c *common) *cobra.Command {
	f := &serverFlags{}
	o := cluster.UpOptions{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster in the background and wait until it is ready",
		Long: `Start a cluster in the background and wait until it is ready: a server, which is a node
too, and with --nodes N further nodes on this machine, each a process in a network
namespace of its own with its own container runtime. A second call says that it is up.

With --server it becomes a further server of a cluster that runs on another machine; the
token for that is made there ('proa token create --server'). --servers N does the same on
this machine, in network namespaces, to try out what happens when a server is lost.`,
		Example: `  proa up
  proa up --nodes 3
  proa up --servers 3
  proa up --name test --https-port 7443
  PROA_TOKEN=... proa up --server https://10.0.0.5:6443`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			if o.Nodes < 0 || o.Nodes > cluster.MaxLocalNodes || o.Nodes == 0 && cmd.Flags().Changed("nodes") {
				return &flagError{"nodes", fmt.Sprint(o.Nodes), fmt.Sprintf("between 1 and %d", cluster.MaxLocalNodes)}
			}
			if !cfg.Node && max(o.Nodes, o.Servers) > 1 {
				return errors.New("--nodes counts the server's own node: it does not go with --node=false")
			}
			if o.Servers < 0 || o.Servers > maxLocalServers || o.Servers == 0 && cmd.Flags().Changed("servers") {
				return &flagError{"servers", fmt.Sprint(o.Servers), fmt.Sprintf("between 1 and %d", maxLocalServers)}
			}
			if o.Servers > 1 && cfg.Join != "" {
				return errors.New("--servers is for a cluster of this machine alone: it does not go with --server")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), o.Timeout)
			defer cancel()
			o.ServerArgs = given(cmd, "nodes", "servers", "timeout", "node-ip", "token")
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
	cmd.Flags().IntVar(&o.Servers, "servers", 0, "how many of these nodes are servers (default: as many as before, or 1)")
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
