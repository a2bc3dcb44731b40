package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newImage(c *common) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Images on the nodes of this machine"}
	load := &cobra.Command{
		Use:   "load ARCHIVE...",
		Short: "Load images from archives (docker save, OCI; also compressed) into every node of this machine",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			for _, file := range files {
				loaded, err := cluster.LoadImages(cmd.Context(), place, file)
				if err != nil {
					return fmt.Errorf("load %s: %w", file, err)
				}
				for _, l := range loaded {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", l.Node, l.Image)
				}
			}
			return nil
		},
	}
	list := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the images on the nodes of this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			all, err := cluster.ListImages(cmd.Context(), place)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "NODE\tIMAGE")
			for _, i := range all {
				fmt.Fprintf(w, "%s\t%s\n", i.Node, i.Image)
			}
			return w.Flush()
		},
	}
	cmd.AddCommand(load, list)
	return cmd
}
