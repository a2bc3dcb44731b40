package cluster

import (
	"errors"
	"log/slog"

	"github.com/proa-dev/proa/access/audit"
)

// AuditConfig says what is kept of requests, and where. Nothing, when neither Log nor
// Webhook is given.
type AuditConfig struct {
	Policy  string // file; empty: audit.DefaultPolicy
	Log     string // file, "-" for standard output
	Webhook string // kubeconfig
	// Of the file: see audit.FileConfig.
	MaxSize, MaxAge, MaxBackups int
}

var errNoAudit = errors.New("--audit-policy-file is given without a place to write to: give --audit-log-path or --audit-webhook-config-file too")

// open makes the audit log; nil when there is nothing to write to.
func (c *AuditConfig) open(log *slog.Logger) (*audit.Log, error) {
	var policy *audit.Policy
	var err error
	if c.Policy != "" {
		if c.Log == "" && c.Webhook == "" {
			return nil, errNoAudit
		}
		if policy, err = audit.LoadPolicy(c.Policy); err != nil {
			return nil, err
		}
	}
	var sinks []audit.Sink
	if c.Log != "" {
		f, err := audit.NewFile(audit.FileConfig{Path: c.Log, MaxSize: c.MaxSize, MaxAge: c.MaxAge, MaxBackups: c.MaxBackups, Log: log})
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, f)
	}
	if c.Webhook != "" {
		w, err := audit.NewWebhook(audit.WebhookConfig{Kubeconfig: c.Webhook, Log: log})
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, w)
	}
	return audit.New(audit.Config{Policy: policy, Sinks: sinks, Log: log})
}
