package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newToken(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Tokens with which further machines join",
	}
	var ttl time.Duration
	create := &cobra.Command{
		Use:   "create",
		Short: "Create a join token and print it",
		Long: `Create a join token and print it. It carries the fingerprint of the cluster's CA, so the
joining machine knows the server before it sends anything, and it expires.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 || ttl > 365*24*time.Hour {
				return &flagError{"ttl", ttl.String(), "more than 0 and at most 8760h"}
			}
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			token, err := cluster.CreateToken(cmd.Context(), place, ttl)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	create.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is valid")
	cmd.AddCommand(create)
	return cmd
}
