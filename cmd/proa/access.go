package main

import (
	"github.com/spf13/pflag"

	"github.com/proa-dev/proa/cluster"
)

// registerAccess adds kube-apiserver's flags about who vouches for users and who decides.
func registerAccess(flags *pflag.FlagSet, a *cluster.AccessConfig) {
	flags.StringVar(&a.AuthenticationConfig, "authentication-config", "", "file with an AuthenticationConfiguration: issuers of JSON web tokens (OpenID Connect), anonymous requests")
	flags.StringVar(&a.AuthorizationConfig, "authorization-config", "", "file with an AuthorizationConfiguration: the chain of authorizers (default: Node, RBAC)")
	flags.BoolFunc("anonymous-auth", "let requests without credentials through to authorization (default true)", func(text string) error {
		switch text {
		case "true":
			a.NoAnonymous = false
		case "false":
			a.NoAnonymous = true
		default:
			return &flagError{"anonymous-auth", text, "true or false"}
		}
		return nil
	})
	o := &a.OIDC
	flags.StringVar(&o.IssuerURL, "oidc-issuer-url", "", "URL of an OpenID Connect issuer whose ID tokens are accepted")
	flags.StringVar(&o.ClientID, "oidc-client-id", "", "audience that its tokens must have")
	flags.StringVar(&o.CAFile, "oidc-ca-file", "", "CA of the issuer (default: the host's)")
	flags.StringVar(&o.UsernameClaim, "oidc-username-claim", "sub", "claim with the user's name")
	flags.StringVar(&o.UsernamePrefix, "oidc-username-prefix", "", "put before user names; - for none (default: the issuer's URL and #, unless the claim is email)")
	flags.StringVar(&o.GroupsClaim, "oidc-groups-claim", "", "claim with the user's groups")
	flags.StringVar(&o.GroupsPrefix, "oidc-groups-prefix", "", "put before groups")
	flags.StringToStringVar(&o.RequiredClaims, "oidc-required-claim", nil, "claims that a token must have (key=value)")
	flags.StringSliceVar(&o.SigningAlgs, "oidc-signing-algs", []string{"RS256"}, "signing algorithms accepted from the issuer of --oidc-issuer-url")
	flags.StringVar(&a.TokenWebhook, "authentication-token-webhook-config-file", "", "kubeconfig of a webhook that knows tokens")
	flags.StringVar(&a.TokenWebhookVersion, "authentication-token-webhook-version", "v1", "version of TokenReview that it speaks: v1 or v1beta1")
	flags.DurationVar(&a.TokenWebhookTTL, "authentication-token-webhook-cache-ttl", cluster.DefaultTokenWebhookTTL, "how long its answers count")
}
