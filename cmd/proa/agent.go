package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newAgent(c *common) *cobra.Command {
	f := &nodeFlags{}
	cfg := cluster.AgentConfig{}
	var progress string
	cmd := &cobra.Command{
		Use:   "agent --server https://HOST:6443 --token TOKEN",
		Short: "Run a node in the foreground that joins a server",
		Long: `Run a node. The token comes from 'proa token create' on the server; it proves the
server to the node as well as the node to the server, and is needed only the first time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.logger()
			if err != nil {
				return err
			}
			if cfg.Server == "" {
				return errors.New("--server is needed: the server's address, as https://HOST:6443")
			}
			if cfg.Node, err = f.config(); err != nil {
				return err
			}
			if cfg.Place, err = cluster.ClaimPlace(c.roots(), c.name, cluster.RangeInUse); err != nil {
				return err
			}
			steps, err := cluster.NewProgress(progress, processStart())
			if err != nil {
				return err
			}
			err = cluster.RunAgent(cmd.Context(), cfg, log, steps)
			if err != nil {
				steps.Failed(err)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.Server, "server", "", "address of the server (https://HOST:PORT)")
	cmd.Flags().StringVar(&cfg.Token, "token", "", "join token; better given in the environment as PROA_TOKEN")
	cmd.Flags().StringVar(&progress, "progress-file", "", "note the steps of the start in this file")
	cmd.Flags().StringVar(&cfg.Netns, "network-namespace", "", "network namespace that this process was started in")
	for _, name := range []string{"progress-file", "network-namespace"} {
		_ = cmd.Flags().MarkHidden(name)
	}
	f.register(cmd.Flags())
	return cmd
}
