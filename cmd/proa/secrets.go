package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
	"github.com/proa-dev/proa/store"
)

func newSecrets(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "How secrets are kept on disk",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "rotate-key",
		Short: "Make a new key, and encrypt all secrets in etcd with it",
		Long: `Make a new key and encrypt all secrets in etcd with it, while the cluster runs. Older keys
stay in the file, for backups of etcd that they open.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			var last []store.Sealing
			if err := cluster.RotateKey(cmd.Context(), place, func(now []store.Sealing) { last = now }); err != nil {
				return err
			}
			for _, s := range last {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %d objects, encrypted with %s\n", s.Resource, s.Objects, s.With); err != nil {
					return err
				}
			}
			return nil
		},
	})
	return cmd
}
