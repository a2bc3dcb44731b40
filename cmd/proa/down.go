package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newDown(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster and put the machine back; its data stays",
		Long: `Stop the cluster's processes and containers and undo what was changed on this machine:
links, routes, nftables, mounts, cgroups, sysctls. The data stays: 'proa up' goes on with
it. 'proa uninstall' removes the data too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			out := cmd.OutOrStdout()
			return cluster.Down(cmd.Context(), place, func(text string) { fmt.Fprintln(out, text) })
		},
	}
}
