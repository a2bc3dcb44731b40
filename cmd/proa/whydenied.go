package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/cluster"
)

func newWhyDenied(c *common) *cobra.Command {
	why := &cobra.Command{Use: "why", Short: "Explain what the cluster decided"}
	why.AddCommand(deniedCommand(c))
	return why
}

func deniedCommand(c *common) *cobra.Command {
	q := cluster.Question{}
	cmd := &cobra.Command{
		Use:   "denied VERB TYPE[/NAME] --as USER",
		Short: "Explain why a user may not do something, and what would allow it",
		Example: `  proa why denied delete pods/web -n shop --as ann --as-group devs
  proa why denied create deployments.apps -n shop --as system:serviceaccount:ci:robot
  proa why denied get /metrics --as ann`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			q.Verb, q.Resource = args[0], args[1]
			d, err := cluster.WhyDenied(cmd.Context(), p, q)
			if err != nil {
				return err
			}
			return printDenied(cmd.OutOrStdout(), q, d)
		},
	}
	cmd.Flags().StringVar(&q.User, "as", "", "the user; a service account is system:serviceaccount:NAMESPACE:NAME")
	cmd.Flags().StringSliceVar(&q.Groups, "as-group", nil, "groups of the user")
	cmd.Flags().StringVarP(&q.Namespace, "namespace", "n", "", "namespace (default: all)")
	cmd.Flags().StringVar(&q.Sub, "subresource", "", "subresource, such as log or exec")
	_ = cmd.MarkFlagRequired("as")
	return cmd
}

func printDenied(out io.Writer, q cluster.Question, d *cluster.Denied) error {
	if d.Allowed {
		_, err := fmt.Fprintf(out, "It is allowed: %s\n", d.Reason)
		return err
	}
	text := &strings.Builder{}
	fmt.Fprintf(text, "User %q may not %s %s", q.User, q.Verb, q.Resource)
	if q.Namespace != "" {
		fmt.Fprintf(text, " in namespace %q", q.Namespace)
	}
	if text.WriteString(".\n"); d.Reason != "" {
		fmt.Fprintf(text, "The server says: %s\n", d.Reason)
	}
	if len(d.Nearest) == 0 {
		text.WriteString("No role that the user has speaks of it.\n")
	} else {
		text.WriteString("\nNearest to it, of what the user has:\n")
	}
	for _, n := range d.Nearest {
		fmt.Fprintf(text, "  %s gives %s: %s on %s; it lacks %s\n", n.Binding, n.Role, strings.Join(n.Rule.Verbs, ","), about(&n.Rule, d.Asked), strings.Join(n.Lacks, " and "))
	}
	if len(d.Granting) > 0 {
		fmt.Fprintf(text, "\nThese cluster roles allow it: %s\n", strings.Join(d.Granting, ", "))
		fmt.Fprintf(text, "For example:\n  %s\n", bindCommand(q, d))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// about names what a rule is about, of a long list only what is of the kind asked for.
func about(rule *rbacv1.PolicyRule, asked *access.Attributes) string {
	var out []string
	for _, r := range rule.Resources {
		if head, _, _ := strings.Cut(r, "/"); head == asked.Plural || head == "*" {
			out = append(out, r)
		}
	}
	return strings.Join(append(out, rule.NonResourceURLs...), ",")
}

func bindCommand(q cluster.Question, d *cluster.Denied) string {
	subject := "--user=" + q.User
	if rest, ok := strings.CutPrefix(q.User, "system:serviceaccount:"); ok {
		subject = "--serviceaccount=" + rest
	}
	if q.Namespace == "" {
		return fmt.Sprintf("proa kubectl create clusterrolebinding NAME --clusterrole=%s %s", d.Granting[0], subject)
	}
	return fmt.Sprintf("proa kubectl create rolebinding NAME -n %s --clusterrole=%s %s", q.Namespace, d.Granting[0], subject)
}
