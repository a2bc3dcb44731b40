package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newStatus(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show every part of the cluster on one screen, and what is wrong",
		Long:  "Show processes, API, nodes, certificates and store on one screen, and what is wrong. The exit code is 1 when something is.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			report := cluster.Status(cmd.Context(), place)
			out := cmd.OutOrStdout()
			w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
			for _, l := range report.Lines {
				fmt.Fprintf(w, "%s\t%s\t%s\n", l.What, l.State, l.Detail)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			for _, p := range report.Problems {
				fmt.Fprintln(out, "! "+p)
			}
			if len(report.Problems) > 0 {
				return exitCode(1)
			}
			return nil
		},
	}
}
