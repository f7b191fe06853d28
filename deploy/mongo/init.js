// Makes the replica set, the administrator and the ledger's user; run again, it gives that user the password of today.
// Only the first run needs the localhost exception, which lets a connection from localhost make the first user
// (https://www.mongodb.com/docs/manual/core/localhost-exception/).
const fs = require('fs');

const SECRETS = process.env.SECRETS || '/run/secrets';
const HOST = process.env.MEMBER || 'mongo:27017';
const LEDGER = 'celery_logs';
const PRIMARY_WITHIN_MS = 60000;
const ALREADY_INITIALIZED = 23;
const UNAUTHORIZED = 13;

function secret(name) {
  let value = '';
  try {
    value = fs.readFileSync(`${SECRETS}/${name}`, 'utf8').trim();
  } catch (error) {
    // told below
  }
  if (!value) {
    print(`mongo/init.js: no password in ${SECRETS}/${name}: run scripts/secrets`);
    quit(1);
  }
  return value;
}

function login(admin, password) {
  try {
    admin.auth('root', password);
    return true;
  } catch (error) {
    return false;
  }
}

function initiate() {
  try {
    rs.initiate({ _id: 'rs0', members: [{ _id: 0, host: HOST }] });
    print(`mongo/init.js: made the replica set rs0 of ${HOST}`);
  } catch (error) {
    if (error.code === UNAUTHORIZED) {
      print('mongo/init.js: the password in mongo_root_password is not that of root, which exists: put the old one back');
      quit(1);
    }
    if (error.code !== ALREADY_INITIALIZED) throw error;
  }
}

function waitForPrimary() {
  const until = Date.now() + PRIMARY_WITHIN_MS;
  while (!db.hello().isWritablePrimary) {
    if (Date.now() > until) {
      print(`mongo/init.js: no primary within ${PRIMARY_WITHIN_MS / 1000} s: does the name ${HOST} lead to this server?`);
      quit(1);
    }
    sleep(200);
  }
}

function makeUser(database, name, password, roles) {
  if (database.getUser(name)) {
    database.updateUser(name, { pwd: password, roles });
  } else {
    database.createUser({ user: name, pwd: password, roles });
    print(`mongo/init.js: made the user ${name}`);
  }
}

const rootPassword = secret('mongo_root_password');
const ledgerPassword = secret('mongo_password');
const admin = db.getSiblingDB('admin');

if (!login(admin, rootPassword)) {
  initiate();
  waitForPrimary();
  admin.createUser({ user: 'root', pwd: rootPassword, roles: ['root'] });
  print('mongo/init.js: made the user root');
  admin.auth('root', rootPassword);
}
waitForPrimary();
const ledger = db.getSiblingDB(LEDGER);
makeUser(ledger, 'rowrelay', ledgerPassword, [{ role: 'readWrite', db: LEDGER }]);
print('mongo/init.js: done');
