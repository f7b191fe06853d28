// Succeeds where this server is the primary and the ledger's user can log in: init.js is through, and writes are taken.
const password = require('fs').readFileSync('/run/secrets/mongo_password', 'utf8').trim();
db.getSiblingDB('celery_logs').auth('rowrelay', password);
quit(db.hello().isWritablePrimary ? 0 : 1);
