"""The figures of the history, for the page and the command line alike: `services.dashboard.figures`."""
