package main

import (
	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/runtime/daemon"
)

// newContainerd is the child process that the node part starts.
func newContainerd() *cobra.Command {
	return &cobra.Command{
		Use:                "containerd",
		Short:              "The container runtime inside (started by proa itself)",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return daemon.Main(cmd.Context(), args)
		},
	}
}
