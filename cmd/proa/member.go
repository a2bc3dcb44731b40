package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newMember(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "member",
		Short: "The servers of a cluster: which there are, and removing one",
	}
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List the servers, and say how many may be lost",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			all, err := cluster.Servers(cmd.Context(), place)
			if err != nil {
				return err
			}
			return printServers(cmd, all)
		},
	}
	rm := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a server for good",
		Long: `Remove a server for good, one that is lost or that shall go: it is taken out of etcd and of
the API's endpoints. What would leave the others without a majority is refused. Its node
stays until 'proa kubectl delete node NAME'. To come back it must join anew, after 'proa uninstall'
on its machine. One that never started is named by the URL that 'proa member ls' shows.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			if err := cluster.RemoveServer(cmd.Context(), place, args[0]); err != nil {
				return err
			}
			text := fmt.Sprintf("Server %s is removed.", args[0])
			if !strings.Contains(args[0], ":") { // one that never started has no node
				text += " Its node stays until: proa kubectl delete node " + args[0]
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.AddCommand(ls, rm)
	return cmd
}

func printServers(cmd *cobra.Command, all []cluster.ServerInfo) error {
	out := cmd.OutOrStdout()
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tROLE\tSTATE\tAPI\tETCD")
	for _, s := range all {
		role, state, name := "voter", "reachable", s.Name
		switch {
		case s.Leader:
			role = "leader"
		case s.Learner:
			role = "learner"
		}
		if !s.Reachable {
			state = "lost"
		}
		if name == "" {
			name = "<not started>"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, role, state, s.API, s.URL)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch n := cluster.Survives(all); {
	case n < 0:
		_, err := fmt.Fprintln(out, "There is no majority of the servers: nothing can be written.")
		return err
	case n == 0:
		_, err := fmt.Fprintln(out, "The cluster survives the loss of no server. Three servers survive the loss of one.")
		return err
	default:
		_, err := fmt.Fprintf(out, "The cluster survives the loss of %d.\n", n)
		return err
	}
}
