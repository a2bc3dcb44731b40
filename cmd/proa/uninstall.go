package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newUninstall(c *common) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop the cluster and remove everything of it from this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			out := cmd.OutOrStdout()
			report := func(text string) { fmt.Fprintln(out, text) }
			if dry {
				return cluster.PlanUninstall(place, report)
			}
			return cluster.Uninstall(cmd.Context(), place, report)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only print what would be undone")
	return cmd
}
