// Package prometheus is a Prometheus inside this process: it takes metrics by OTLP,
// evaluates rule files, and answers queries, all without a server of its own. The
// demo shows its alerts with it, and tests ask it what the rules and the dashboards
// of the repository make of real telemetry.
package prometheus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"go.opentelemetry.io/otel/trace"
)

// ReceiverPath is where a Prometheus server has what [Server.Receiver] returns. The
// handler itself does not mind where it is mounted.
const ReceiverPath = "/api/v1/otlp/v1/metrics"

// RuleFiles is the pattern of the names of rule files.
const RuleFiles = "*.rules.yml"

// The durations of a Prometheus server that go with the rules' own.
const (
	defaultInterval = 15 * time.Second
	defaultLookback = 5 * time.Minute
)

// Config says what a [Server] evaluates. The zero Config is one without rules.
type Config struct {
	// Rules holds the rule files, those whose names match [RuleFiles]. Nil means
	// none.
	Rules fs.FS

	// Scale is multiplied with every duration in the rule files, and with the time
	// for which a series without a new sample counts as present (5 minutes): 0.05
	// makes a rule that waits for 5 minutes wait for 15 seconds. Rates stay per
	// second. Zero means 1.
	//
	// The rules of this repository need a Scale of at least 1/60 for each second
	// between two exports of metrics: 1 for the SDK's default of a minute, 1/60 for an
	// export each second.
	Scale float64

	// Interval is the time between two evaluations of a rule. Zero means 15 seconds
	// times Scale.
	Interval time.Duration

	// Dir is where the temporary folder with the samples is made. Empty means the
	// default folder for temporary files.
	Dir string

	// Logger receives what goes wrong. Nil discards it.
	Logger *slog.Logger

	// OnAlert is called with each alert that has changed its state, by one goroutine
	// at a time and in order. An alert that was pending and did not come to fire is
	// given as inactive. OnAlert may be called before Open has returned, delays the
	// evaluation of rules while it runs, and must not call [Server.Close]. Nil means
	// that nobody is told.
	OnAlert func(Alert)
}

func (c Config) withDefaults() (Config, error) {
	if c.Scale == 0 {
		c.Scale = 1
	}
	if !(c.Scale > 0) || math.IsInf(c.Scale, 1) { // so that NaN is refused
		return c, fmt.Errorf("prometheus: Scale is %v, want a positive number", c.Scale)
	}
	if c.Interval == 0 {
		c.Interval = scaled(defaultInterval, c.Scale)
	}
	if c.Interval < time.Millisecond {
		return c, fmt.Errorf("prometheus: Interval is %v, want at least 1ms", c.Interval)
	}
	if c.Logger == nil {
		c.Logger = promslog.NewNopLogger()
	}
	return c, nil
}

// ErrClosed is the error of queries after [Server.Close].
var ErrClosed = errors.New("prometheus: closed")

// Server is a running Prometheus. Make one with [Open]. Its methods may be called
// concurrently.
type Server struct {
	dir      string
	db       *tsdb.DB
	engine   *promql.Engine
	manager  *rules.Manager
	running  sync.WaitGroup // the manager
	receiver http.Handler
	alerts   *board

	close    sync.Once
	closeErr error

	use    sync.RWMutex // held for reading while requests and queries use the database
	closed bool         // guarded by use
}

// Open starts a server. Without an error the caller must call [Server.Close]. A rule
// file that cannot be used is an error that names it.
func Open(c Config) (_ *Server, err error) {
	c, err = c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{alerts: newBoard(c.OnAlert)}
	if s.dir, err = os.MkdirTemp(c.Dir, "prometheus-"); err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.db, err = tsdb.Open(s.dir, c.Logger, nil, storage(), nil); err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	language := parser.NewParser(parser.Options{})
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger:                   c.Logger,
		MaxSamples:               50_000_000,
		Timeout:                  time.Minute,
		LookbackDelta:            scaled(defaultLookback, c.Scale),
		NoStepSubqueryIntervalFn: func(int64) int64 { return c.Interval.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		Parser:                   language,
	})
	s.receiver = remote.NewOTLPWriteHandler(c.Logger, nil, s.db, otlpConfig(), remote.OTLPOptions{
		LookbackDelta: scaled(defaultLookback, c.Scale),
	})
	return s, s.evaluate(c, language)
}

// storage returns the options of the database. What is in it is of no use to anybody
// after the process, so there is no log to recover it from.
func storage() *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.WALSegmentSize = -1
	o.NoLockfile = true
	o.StripeSize = 1 << 10
	o.RetentionDuration = (12 * time.Hour).Milliseconds()
	o.EnableExemplarStorage = true
	o.MaxExemplars = 10_000
	return o
}

// otlpConfig is that of a server whose configuration file says nothing of OTLP.
func otlpConfig() func() config.Config {
	c := config.Config{OTLPConfig: config.DefaultOTLPConfig}
	return func() config.Config { return c }
}

// evaluate loads the rules and starts to evaluate them.
func (s *Server) evaluate(c Config, language parser.Parser) error {
	loader, files, err := load(c.Rules, c.Scale, language)
	if err != nil {
		return err
	}
	s.manager = rules.NewManager(&rules.ManagerOptions{
		Context:     untraced(context.Background()),
		Appendable:  s.db,
		Queryable:   s.db,
		QueryFunc:   rules.EngineQueryFunc(s.engine, s.db),
		NotifyFunc:  func(context.Context, string, ...*rules.Alert) {}, // the board sees more: pending ones as well
		Logger:      c.Logger,
		GroupLoader: loader,
		Parser:      language,
	})
	err = s.manager.Update(c.Interval, files, labels.EmptyLabels(), "", func(ctx context.Context, g *rules.Group, at time.Time) {
		rules.DefaultEvalIterationFunc(ctx, g, at)
		s.alerts.update(g, at)
	})
	if err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	s.alerts.declare(loader.inOrder(s.manager.RuleGroups()))
	s.running.Go(s.manager.Run)
	return nil
}

// untraced returns a context in which the spans that Prometheus makes of its work are
// dropped: their parent was not sampled. Else they would be among the demo's own if
// it has a global tracer provider.
func untraced(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1},
		SpanID:  trace.SpanID{1},
	}))
}

// Receiver returns a handler of OTLP metrics over HTTP, as protobuf or JSON, plain or
// with gzip. Samples are stored under the names and labels that a Prometheus server
// gives them, exemplars with them. After Close it answers 503.
func (s *Server) Receiver() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.use.RLock()
		defer s.use.RUnlock()
		if s.closed {
			http.Error(w, ErrClosed.Error(), http.StatusServiceUnavailable)
			return
		}
		s.receiver.ServeHTTP(w, r)
	})
}

// Close stops the evaluation of rules, waits for requests and queries that are under
// way, and removes the samples. Nothing of the server is running when it returns.
// Further calls do nothing. The alerts can be asked for as they were.
func (s *Server) Close() error {
	s.close.Do(func() { s.closeErr = s.end() })
	return s.closeErr
}

func (s *Server) end() error {
	// The lock is not held while the rules come to a stop: OnAlert may ask something.
	s.use.Lock()
	s.closed = true
	s.use.Unlock()
	if s.manager != nil {
		s.manager.Stop()
		s.running.Wait()
	}
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	errs = append(errs, os.RemoveAll(s.dir))
	return errors.Join(errs...)
}
