package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	clientTTL = prometheus.NewDesc("kubelet_certificate_manager_client_ttl_seconds", "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired). If client certificate is invalid or unused, the value will be +INF.", nil, nil)
	serverTTL = prometheus.NewDesc("kubelet_certificate_manager_server_ttl_seconds", "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.", nil, nil)
)

// certificateTTLs tells how long a node's certificates are still good.
type certificateTTLs nodeClients

// Describe implements prometheus.Collector.
func (certificateTTLs) Describe(to chan<- *prometheus.Desc) {
	to <- clientTTL
	to <- serverTTL
}

// Collect implements prometheus.Collector. A certificate that is not there is not told of.
func (c certificateTTLs) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, cert *tls.Certificate, err error) {
		if err != nil || cert == nil || len(cert.Certificate) == 0 {
			return
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err == nil {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, time.Until(leaf.NotAfter).Seconds())
		}
	}
	if c.certificate != nil {
		cert, err := c.certificate(&tls.CertificateRequestInfo{})
		tell(clientTTL, cert, err)
	}
	if c.serving != nil && c.serving.GetCertificate != nil {
		cert, err := c.serving.GetCertificate(&tls.ClientHelloInfo{})
		tell(serverTTL, cert, err)
	}
}
