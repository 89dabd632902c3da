"""RequestLogExampleGen: a day of a request log, with the labels that came, as Examples."""
